"""The sandbox and our messages, seen by somebody else's client: Nutshell's `LndRPCWallet`, in a process of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from wallet_actions.lightning import LndClient, lnd_pb2, payment_hash_of
from wallet_actions.lightning.protos import HERE, MADE, make
from wallet_actions.lightning.sandbox import Fate, SandboxNode, SandboxServer
from wallet_actions.testing.nutshell.environment import ensure_environment

pytestmark = pytest.mark.anyio

SCRIPT = Path(__file__).with_name("lnd_rpc_wallet.py")


async def ask(lnd: SandboxServer, folder: Path, *invoices: str) -> Any:
    (folder / "tls.cert").write_bytes(lnd.address.certificate)
    (folder / "admin.macaroon").write_bytes(bytes.fromhex(lnd.macaroon))
    (folder / "wrong.macaroon").write_bytes(b"\x02\x01")
    process = await asyncio.create_subprocess_exec(
        str(ensure_environment()),
        str(SCRIPT),
        lnd.target,
        str(folder / "tls.cert"),
        str(folder / "admin.macaroon"),
        str(folder / "wrong.macaroon"),
        *invoices,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]
    return json.loads(output.splitlines()[-1])


async def test_another_client_finds_an_lnd(tmp_path: Path) -> None:
    """Whatever a payment can be: none, initiated, in flight, settled, failed, refused; and after a restart."""
    async with SandboxServer(SandboxNode()) as lnd:
        good, bad, held, begun, ours = (lnd.node.invoice(21_000) for _ in range(5))
        lnd.node.decide(payment_hash_of(bad), Fate.FAIL)
        lnd.node.decide(payment_hash_of(held), Fate.HOLD)
        async with LndClient(lnd.address) as client:  # what our client has made, another one finds
            await client.send(ours, fee_limit_msat=1_000, timeout_s=60)
        lnd.node.send(held, fee_limit_msat=1_000)
        await lnd.stop()
        await lnd.start()
        await lnd.settle()
        lnd.node.send(begun, fee_limit_msat=1_000)
        refused = (lnd.node.invoice(21_000, age_s=7200), lnd.node.invoice(None), lnd.node.invoice(21_000, is_own=True))
        answer = await ask(lnd, tmp_path, good, bad, held, begun, ours, *refused)
        preimage = lnd.node.preimage(payment_hash_of(good))
        settled, starts = dict(lnd.node.settled), lnd.node.records[payment_hash_of(bad)].starts
    paid, failed, *others = answer["told"]
    assert (paid["before"], paid["paid"], paid["after"]) == ("UNKNOWN", "SETTLED", "SETTLED")
    assert (paid["fee"], paid["preimage"], paid["after_preimage"]) == (100, preimage, preimage)
    assert paid["again"] == "UNKNOWN"
    assert "ALREADY_EXISTS" in paid["again_error"]
    assert "invoice is already paid" in paid["again_error"]
    assert (failed["paid"], failed["error"]) == ("FAILED", "FAILURE_REASON_NO_ROUTE")
    assert (failed["again"], failed["after"], failed["after_preimage"]) == ("FAILED", "FAILED", None)
    assert [one["before"] for one in others[:3]] == ["PENDING", "PENDING", "SETTLED"]
    for one, words in zip(
        others,
        (
            "payment is in transition",
            "payment already exists",
            "invoice is already paid",
            "invoice expired",
            "amount must be specified",
            "self-payments not allowed",
        ),
        strict=True,
    ):
        assert one["paid"] == one["again"] == "UNKNOWN"
        assert words in one["error"]
        assert one["before"] == one["after"]
    assert "verification failed" in answer["refused"]
    assert settled == {payment_hash_of(good): 1, payment_hash_of(ours): 1}
    assert starts == 2, "what has failed starts anew"

    # Ours are a part of theirs, number by number.
    for name, message in lnd_pb2.DESCRIPTOR.message_types_by_name.items():
        theirs = answer["messages"][name]
        for field in message.fields:
            assert theirs[field.name] == [field.number, field.type, field.is_repeated], f"{name}.{field.name}"
    theirs = answer["enums"]
    assert dict(lnd_pb2.Payment.PaymentStatus.items()) == theirs["PaymentStatus"]
    assert theirs["PaymentFailureReason"].items() <= dict(lnd_pb2.PaymentFailureReason.items()).items()


def test_what_is_generated_fits_the_proto(tmp_path: Path) -> None:
    make(ensure_environment(), tmp_path)
    for name in MADE:
        assert (tmp_path / name).read_bytes() == (HERE / name).read_bytes(), f"{name} is out of date: make protos"
