"""Payments over real gRPC: TLS, macaroon, streams that break, a node that restarts, two processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from tests.integration.lightning_certificate import OTHER_CERTIFICATE
from tests.integration.telemetry_kit import Telemetry
from tests.unit.lightning.worlds import FEE_LIMIT, PayingWorld, opened
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.engine import Engine
from wallet_actions.errors import ActionFailedError, ConfigurationError, TransientError, UsageError
from wallet_actions.executor import Executor
from wallet_actions.lightning import KINDS, Allot, LightningSend, LightningWallet, LndAddress, LndClient, pay
from wallet_actions.lightning.sandbox import Fate, Mishap, SandboxNode, SandboxServer
from wallet_actions.lightning.sandbox.server import MACAROON
from wallet_actions.outcome import DriveMode, Outcome
from wallet_actions.registry import Registry
from wallet_actions.store import Store
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.life import FaultKind, Life
from wallet_actions.testing.peers import faulty_interceptors
from wallet_actions.testing.sweep import sweep
from wallet_actions_storage import MemoryStore

pytestmark = pytest.mark.anyio

BALANCE, PATIENCE = 1_000_000, timedelta(seconds=5)
LOCKED = "wallet locked, unlock it to enable full RPC access"
STARTING = "the RPC server is in the process of starting up, but not yet ready to accept calls"


@dataclass
class Paying:
    """A wallet, driven by hand, and its node."""

    lnd: SandboxServer
    clock: FakeClock
    store: Store
    client: LndClient

    @property
    def executor(self) -> Executor:
        """Each time as a new process has it."""
        return Executor(
            self.store, LightningWallet(self.store, self.client, clock=self.clock), Registry(KINDS), clock=self.clock
        )

    async def start(self, **details: Any) -> LightningSend:
        wallet = LightningWallet(self.store, self.client, clock=self.clock)
        action = await LightningSend.of(wallet, self.lnd.node.invoice(21_000, **details), fee_limit_msat=1_000)
        await self.executor.start(action, action.opening)
        self.lnd.calls.clear()
        return action

    async def balance(self) -> tuple[int, int]:
        (one,) = await self.store.balances()
        return one.spendable, one.reserved

    async def checkpoint(self, action: LightningSend) -> Checkpoint:
        found = await self.store.load(action.key)
        assert found is not None
        return found


@pytest.fixture
async def paying() -> AsyncIterator[Paying]:
    clock = FakeClock(auto=True, patience=timedelta(0))
    async with (
        SandboxServer(SandboxNode(balance_msat=BALANCE, clock=clock)) as lnd,
        LndClient(lnd.address, clock=clock, patience=PATIENCE) as client,
        MemoryStore() as store,
    ):
        paying = Paying(lnd, clock, store, client)
        allot = Allot(account=lnd.node.identity.account, label="channel", amount_msat=BALANCE)
        await paying.executor.start(allot)
        await paying.executor.drive(allot.key)
        yield paying


async def test_one_stream_is_enough(paying: Paying) -> None:
    action = await paying.start()
    result = await paying.executor.drive(action.key)
    assert result.outcome is Outcome.DONE
    assert paying.lnd.calls == ["GetInfo", "TrackPaymentV2", "SendPaymentV2"]
    assert result.result is not None
    assert result.result.preimage.get_secret_value() == paying.lnd.node.preimage(action.id)
    assert await paying.balance() == (BALANCE - 21_100, 0)


@pytest.mark.parametrize(
    "mishap",
    [
        Mishap("SendPaymentV2", "lost"),
        Mishap("SendPaymentV2", "dropped", messages=1),
        Mishap("SendPaymentV2", "dropped", messages=0),
        Mishap("SendPaymentV2", "refused", status=grpc.StatusCode.UNKNOWN, details="self-payments not allowed"),
        Mishap("SendPaymentV2", "refused", status=grpc.StatusCode.INVALID_ARGUMENT, details="amt"),
        Mishap("TrackPaymentV2", "refused", status=grpc.StatusCode.DEADLINE_EXCEEDED, details="late"),
        Mishap("TrackPaymentV2", "refused", status=grpc.StatusCode.UNKNOWN, details="wallet locked, unlock it to …"),
        Mishap("GetInfo", "refused", status=grpc.StatusCode.UNAVAILABLE),
    ],
    ids=lambda mishap: f"{mishap.method} {mishap.kind} {mishap.status.name}",
)
async def test_whatever_breaks_it_is_paid_once(paying: Paying, mishap: Mishap) -> None:
    """L-P2, L-P4: after an error, a lost answer or an early end: Track."""
    action = await paying.start()
    paying.lnd.use(mishap)
    result = await paying.executor.drive(action.key, DriveMode.UNTIL_DONE)
    assert result.outcome is Outcome.DONE
    assert paying.lnd.node.settled == {action.id: 1}
    for place, call in enumerate(paying.lnd.calls):
        assert call != "SendPaymentV2" or paying.lnd.calls[place - 1] == "TrackPaymentV2"


async def test_a_sending_that_lands_after_not_found(paying: Paying) -> None:
    """The copy is there before the second sending, or after it: the payment is made once."""
    for lands_first in (True, False):
        action = await paying.start()
        paying.lnd.use(Mishap("SendPaymentV2", "late"))
        assert (await paying.executor.drive(action.key)).outcome is Outcome.PARKED
        if lands_first:
            await paying.lnd.land()
        result = await paying.executor.drive(action.key, DriveMode.UNTIL_DONE)
        await paying.lnd.land()
        assert result.outcome is Outcome.DONE
        assert paying.lnd.node.settled[action.id] == 1


async def test_a_copy_that_lands_after_the_failure(paying: Paying) -> None:
    """It starts the payment anew, and pays: the coins were not free meanwhile."""
    action = await paying.start()
    paying.lnd.node.decide(action.id, Fate.FAIL, Fate.SETTLE)
    paying.lnd.use(Mishap("SendPaymentV2", "late"))
    await paying.executor.drive(action.key)
    assert (await paying.executor.drive(action.key)).outcome is Outcome.PARKED
    assert (await paying.checkpoint(action)).phase == "payment_failed"
    assert (await paying.balance())[1] == 22_000
    await paying.lnd.land()
    result = await paying.executor.drive(action.key, DriveMode.UNTIL_DONE)
    assert result.outcome is Outcome.DONE
    assert await paying.balance() == (BALANCE - 21_100, 0)


async def test_a_node_that_restarts_in_the_middle(paying: Paying) -> None:
    action = await paying.start()
    paying.lnd.node.decide(action.id, Fate.HOLD)
    driving = asyncio.create_task(paying.executor.drive(action.key))
    await paying.lnd.wait_for("SendPaymentV2")
    await paying.lnd.settle()
    await paying.lnd.stop()
    assert (await driving).outcome is Outcome.PARKED
    assert (await paying.executor.drive(action.key)).outcome is Outcome.PARKED  # nobody is there
    await paying.lnd.start()
    paying.lnd.node.decide(action.id, Fate.SETTLE)
    result = await paying.executor.drive(action.key, DriveMode.UNTIL_DONE)
    assert result.outcome is Outcome.DONE
    assert paying.lnd.node.settled == {action.id: 1}
    assert paying.lnd.calls.count("SendPaymentV2") == 1


async def test_a_node_that_restarts_is_locked_at_first(paying: Paying) -> None:
    """It loses the connection with the payment under way, and takes its time; nothing is sent twice, nothing let go."""
    action = await paying.start()
    paying.lnd.node.decide(action.id, Fate.HOLD)
    driving = asyncio.create_task(paying.executor.drive(action.key))
    await paying.lnd.wait_for("SendPaymentV2")
    await paying.lnd.settle()
    await paying.lnd.stop()
    await driving
    await paying.lnd.start()
    for words, told in ((LOCKED, "unlock it"), (STARTING, "starting up")):
        paying.lnd.unready = words
        error: object = None
        while told not in str(error):  # the channel has its own idea of when to connect again
            result = await paying.executor.drive(action.key)
            assert result.outcome is Outcome.PARKED
            assert (await paying.balance())[1] == 22_000
            error = result.error
    paying.lnd.unready = None
    paying.lnd.node.decide(action.id, Fate.SETTLE)
    assert (await paying.executor.drive(action.key, DriveMode.UNTIL_DONE)).outcome is Outcome.DONE
    assert paying.lnd.node.settled == {action.id: 1}
    assert paying.lnd.calls.count("SendPaymentV2") == 1


async def test_a_client_that_the_app_has_closed_too_early(paying: Paying) -> None:
    """Whether before a call or in the middle of one: the payment waits for the next process, and is not stuck."""
    action = await paying.start()
    paying.lnd.node.decide(action.id, Fate.HOLD)
    driving = asyncio.create_task(paying.executor.drive(action.key))
    await paying.lnd.wait_for("SendPaymentV2")
    await paying.client.aclose()
    for _ in range(7):  # more often than an unclassified exception is forgiven
        result = await driving
        assert result.outcome is Outcome.PARKED
        assert isinstance(result.error, TransientError)
        assert "UNAVAILABLE" in str(result.error)
        driving = asyncio.create_task(paying.executor.drive(action.key))
    await driving
    paying.lnd.node.decide(action.id, Fate.SETTLE)
    async with LndClient(paying.lnd.address, clock=paying.clock, patience=PATIENCE) as client:
        result = await replace(paying, client=client).executor.drive(action.key, DriveMode.UNTIL_DONE)
    assert result.outcome is Outcome.DONE
    assert paying.lnd.node.settled == {action.id: 1}


async def test_an_observer_hears_no_secret_and_no_id(paying: Paying, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans and labels name services, methods and statuses; a stream that was read to its end went well."""
    telemetry = Telemetry(monkeypatch)
    async with LndClient(paying.lnd.address, clock=paying.clock, patience=PATIENCE) as client:
        observed = replace(paying, client=client)
        action = await observed.start()
        assert (await observed.executor.drive(action.key)).outcome is Outcome.DONE
    assert telemetry.calls == [("GetInfo", 0), ("GetInfo", 0), ("TrackPaymentV2", 5), ("SendPaymentV2", 0)]
    assert {frozenset(labels) for _, _, labels in telemetry.records} == {
        frozenset({"rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"})
    }
    preimage = paying.lnd.node.preimage(action.id)
    for secret in (action.id, action.invoice, preimage, MACAROON, paying.lnd.node.pubkey, *action.inputs):
        assert secret not in str(telemetry)


async def test_a_payment_that_takes_long_is_left_and_looked_at_again(paying: Paying) -> None:
    """The stream is dropped when patience ends; the payment goes on."""
    action = await paying.start()
    paying.lnd.node.decide(action.id, Fate.HOLD)
    async with LndClient(paying.lnd.address, clock=paying.clock, patience=timedelta(milliseconds=150)) as client:
        impatient = replace(paying, client=client)
        assert (await impatient.executor.drive(action.key)).outcome is Outcome.PARKED
        assert (await paying.checkpoint(action)).phase == "in_flight"
        paying.lnd.node.decide(action.id, Fate.SETTLE)
        assert (await impatient.executor.drive(action.key)).outcome is Outcome.DONE


async def test_a_failed_payment_frees_its_coins(paying: Paying) -> None:
    action = await paying.start()
    paying.lnd.node.fee_msat = 5_000
    await paying.executor.drive(action.key, DriveMode.UNTIL_DONE)
    with pytest.raises(ActionFailedError, match="no route leads there within the fee limit"):
        await paying.executor.result(LightningSend, action.id)
    assert await paying.balance() == (BALANCE, 0)


@pytest.mark.parametrize("what", ["macaroon", "certificate", "permission"])
async def test_wrong_credentials_hold_the_coins_until_they_are_mended(paying: Paying, what: str) -> None:
    """One clear error, nothing lost, and it goes on with the right ones."""
    action = await paying.start()
    right = paying.lnd.address
    wrong = {
        "macaroon": replace(right, macaroon=SecretStr("00ff")),
        "certificate": replace(right, certificate=OTHER_CERTIFICATE),
        "permission": right,
    }[what]
    if what == "permission":
        refusal = {"status": grpc.StatusCode.UNKNOWN, "details": "permission denied"}
        paying.lnd.use(Mishap("SendPaymentV2", "refused", **refusal), Mishap("GetInfo", "refused", **refusal))
    async with LndClient(wrong, clock=paying.clock) as client:
        with pytest.raises(ConfigurationError):
            await client.identity()
        result = await replace(paying, client=client).executor.drive(action.key)
    assert result.outcome is Outcome.PARKED
    checkpoint = await paying.checkpoint(action)
    assert checkpoint.status is Status.PARKED
    assert checkpoint.error is not None
    assert checkpoint.error.type == "ConfigurationError"
    assert ("certificate" if what == "certificate" else "macaroon") in checkpoint.error.message
    assert "00ff" not in checkpoint.error.message
    assert (await paying.balance())[1] == 22_000
    assert (await paying.executor.drive(action.key)).outcome is Outcome.DONE


@pytest.mark.parametrize("what", ["macaroon", "certificate", "host"])
async def test_nothing_is_started_with_wrong_credentials(paying: Paying, what: str) -> None:
    """One clear error, no action and no coin held; with the right ones the same call pays."""
    right = paying.lnd.address
    wrong = {
        "macaroon": replace(right, macaroon=SecretStr("00ff")),
        "certificate": replace(right, certificate=OTHER_CERTIFICATE),
        "host": replace(right, target=right.target.replace("localhost", "0.0.0.0")),
    }[what]
    invoice = paying.lnd.node.invoice(21_000)
    for address, is_right in ((wrong, False), (right, True)):
        async with LndClient(address, clock=paying.clock, patience=PATIENCE) as client:
            wallet = LightningWallet(paying.store, client, clock=paying.clock)
            engine = Engine(paying.store, wallet, KINDS, clock=paying.clock)
            if is_right:
                payment_hash = await pay(engine, wallet, invoice)
                assert (await engine.drive(LightningSend, payment_hash)).outcome is Outcome.DONE
                continue
            with pytest.raises(ConfigurationError, match="macaroon" if what == "macaroon" else "certificate") as caught:
                await pay(engine, wallet, invoice)
            assert "\n" not in str(caught.value)
            assert await engine.operator.list_actions(kinds=[LightningSend.kind]) == []
            assert await paying.balance() == (BALANCE, 0)
    assert "SendPaymentV2" in paying.lnd.calls


async def test_a_node_without_tls_or_none_at_all_may_come_yet(paying: Paying) -> None:
    """Which of the two it is, no client can tell from a node that restarts: so it is asked again."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with LndClient(replace(paying.lnd.address, target=f"localhost:{port}"), clock=paying.clock) as client:
        with pytest.raises(TransientError, match="UNAVAILABLE"):
            await client.identity()
        server.close()
        await server.wait_closed()
        with pytest.raises(TransientError, match="UNAVAILABLE"):
            await client.identity()


@pytest.mark.parametrize(
    ("details", "told"),
    [
        ("self-payments not allowed", "does not pay its own"),
        ("invoice expired. Valid until 2030-01-01", "has expired"),
        ("amount must be specified when paying a zero amount invoice", "no amount"),
    ],
)
async def test_what_the_node_will_never_do_is_said_and_proves_nothing(paying: Paying, details: str, told: str) -> None:
    """L-C5: the coins stay held until the invoice has expired for good."""
    action = await paying.start()
    paying.lnd.use(Mishap("SendPaymentV2", "refused", status=grpc.StatusCode.UNKNOWN, details=details))
    result = await paying.executor.drive(action.key)
    assert result.outcome is Outcome.PARKED
    assert told in str(result.error)
    assert (await paying.balance())[1] == 22_000


async def test_a_node_that_is_not_ready(paying: Paying) -> None:
    for text, told in (
        (LOCKED, "is locked"),
        ("waiting to start, RPC services not available", "starting up"),
        (STARTING, "starting up"),
    ):
        paying.lnd.unready = text
        with pytest.raises(TransientError, match=told):
            await paying.client.identity()


def test_settings_that_cannot_be_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a PEM file"):
        LndAddress("localhost:1", b"nothing", SecretStr("00"))
    for macaroon in ("", "xyz"):
        with pytest.raises(UsageError, match="hexadecimal"):
            LndAddress("localhost:1", OTHER_CERTIFICATE, SecretStr(macaroon))
    with pytest.raises(UsageError, match="localhost:10009"):
        LndAddress("", OTHER_CERTIFICATE, SecretStr("00"))
    with pytest.raises(UsageError, match=r"tls\.cert: No such file"):
        LndAddress.of_files("localhost:1", tmp_path / "tls.cert", tmp_path / "admin.macaroon")
    (tmp_path / "tls.cert").write_bytes(OTHER_CERTIFICATE)
    (tmp_path / "admin.macaroon").write_bytes(b"\x02\x01")
    address = LndAddress.of_files("localhost:1", tmp_path / "tls.cert", tmp_path / "admin.macaroon")
    assert address.macaroon.get_secret_value() == "0201"
    assert "0201" not in repr(address)


class GrpcWorld(PayingWorld):
    """The same payment, through a channel whose every message may be lost."""

    faults = tuple(fault for fault in FaultKind if fault is not FaultKind.SLOW)

    def __init__(self) -> None:
        super().__init__()
        self.server = SandboxServer(self.node)
        self.clients: list[LndClient] = []

    async def prepare(self, store: Store) -> None:
        await self.server.start()
        await super().prepare(store)

    def peer(self, life: Life) -> Any:
        client = LndClient(
            self.server.address, clock=self.clock, patience=PATIENCE, interceptors=faulty_interceptors(life)
        )
        self.clients.append(client)
        return client

    def contradict(self, name: str, answer: Any) -> Any:
        return answer

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()
        if self.clients:
            await self.server.stop()


async def test_every_message_of_every_stream_may_be_lost() -> None:
    """T3: UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED with RetryInfo, …, and crashes, through grpc.aio."""
    report = await sweep(opened, GrpcWorld, sample=16, seed=3)
    assert report.is_ok, str(report)
    assert {"GetInfo", "TrackPaymentV2", "SendPaymentV2"} <= {boundary.name for boundary in report.boundaries}
    assert FEE_LIMIT == 1_000
