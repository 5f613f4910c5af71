"""The rules for a sender, one by one (PEERS: LND)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

from tests.unit.lightning.rig import BALANCE, LightningRig
from wallet_actions.checkpoint import Status
from wallet_actions.errors import ActionFailedError, ConfigurationError, RejectedError, TransientError
from wallet_actions.lightning import Allot, LightningSend, NodeIdentity, Payment, PaymentStatus, pay
from wallet_actions.lightning.sandbox import Fate
from wallet_actions.lightning.send import COPY_POLL, GRACE, PAYMENT
from wallet_actions.outcome import DriveMode, Outcome
from wallet_actions_storage import MemoryStore

pytestmark = pytest.mark.anyio

HELD = (BALANCE - 22_000, 22_000)
LOST = TransientError("the answer was lost")


@pytest.fixture
async def rig() -> AsyncIterator[LightningRig]:
    async with LightningRig() as rig:
        yield rig


async def fact(rig: LightningRig, action: LightningSend) -> dict[str, object]:
    ((_, found),) = await rig.store.facts(kind=PAYMENT, key=action.payment_hash)
    body: dict[str, object] = json.loads(found.body)
    return body


async def phases(rig: LightningRig, action: LightningSend) -> list[str]:
    history = await rig.store.history(action.key)
    return [f"{entry.event} {entry.phase}" for entry in history]


async def failed(rig: LightningRig, action: LightningSend) -> str:
    with pytest.raises(ActionFailedError) as caught:
        await rig.end(action)
    return str(caught.value)


async def test_a_payment_goes_through(rig: LightningRig) -> None:
    """Track, then Send; the receipt is a fact before Done; what is left of the fee limit comes back."""
    action = await rig.send()
    assert await rig.balance() == HELD
    rig.node.calls.clear()
    sent = await rig.end(action)
    assert (sent.amount_msat, sent.fee_msat) == (21_000, 100)
    preimage = rig.lnd.preimage(action.id)
    assert sent.preimage.get_secret_value() == preimage
    assert preimage not in repr(sent)
    assert rig.node.calls == ["track", "send", "track"]
    assert await phases(rig, action) == [
        "start coins_reserved",
        "next dispatched",
        "next in_flight",
        "next settled",
        "done settled",
    ]
    assert await fact(rig, action) == {
        "state": "settled",
        "account": action.account,
        "amount_msat": 21_000,
        "fee_msat": 100,
        "preimage": preimage,
    }
    assert await rig.balance() == (BALANCE - 21_100, 0)


async def test_the_same_invoice_is_the_same_payment(rig: LightningRig) -> None:
    """G6: also where the invoice has expired and the money is gone meanwhile."""
    invoice = rig.lnd.invoice(990_000)
    first = await pay(rig.engine, rig.wallet, invoice, fee_limit_msat=10_000)
    await rig.engine.drive(LightningSend, first, DriveMode.UNTIL_DONE)
    await rig.clock.sleep(timedelta(hours=2))
    assert await pay(rig.engine, rig.wallet, invoice) == first
    assert (await rig.engine.executor.result(LightningSend, first)).fee_msat == 100
    assert rig.lnd.settled == {first: 1}


async def test_exists_already_means_look(rig: LightningRig) -> None:
    action = await rig.send()
    rig.lnd.send(action.invoice, fee_limit_msat=1_000)  # by a copy of ours
    rig.node.script["track"] = [None]
    rig.node.calls.clear()
    await rig.end(action)
    assert rig.node.calls[:3] == ["track", "send", "track"]
    assert rig.lnd.records[action.id].starts == 1


async def test_a_payment_that_the_node_has_made_is_adopted(rig: LightningRig) -> None:
    """L-P2: the file was put back to yesterday's, say; it is not sent again."""
    action = await rig.send()
    record = rig.lnd.send(action.invoice, fee_limit_msat=1_000)
    rig.lnd.run(record)
    rig.lnd.run(record)
    await rig.end(action)
    assert "send" not in rig.node.calls
    assert await rig.balance() == (BALANCE - 21_100, 0)


async def test_a_failure_is_written_before_the_coins_come_free_and_the_hash_never_goes_out_again(
    rig: LightningRig,
) -> None:
    action = await rig.send()
    rig.lnd.decide(action.id, Fate.FAIL, Fate.SETTLE, reason="INCORRECT_PAYMENT_DETAILS")
    assert "the payment failed: the payee refused it" in await failed(rig, action)
    assert (await phases(rig, action))[-2:] == ["next payment_failed", "fail payment_failed"]
    assert (await fact(rig, action))["state"] == "failed"
    assert await rig.balance() == (BALANCE, 0)
    sendings = rig.node.calls.count("send")
    rig.restart()
    assert await pay(rig.engine, rig.wallet, action.invoice) == action.id
    assert not (await rig.engine.start(action, action.opening)).is_new
    await failed(rig, action)
    assert rig.node.calls.count("send") == sendings == 1
    assert not rig.lnd.settled


async def test_a_failure_that_another_brought_about_counts(rig: LightningRig) -> None:
    """The hash has failed at the node before we sent it: it is not sent."""
    action = await rig.send()
    rig.lnd.decide(action.id, Fate.FAIL, Fate.SETTLE)
    record = rig.lnd.send(action.invoice, fee_limit_msat=1_000)
    rig.lnd.run(record)
    rig.lnd.run(record)
    await failed(rig, action)
    assert "send" not in rig.node.calls


async def test_not_found_is_sent_again_and_never_refunded(rig: LightningRig) -> None:
    """L-C5: the sending is lost five times, and nothing is known of it; then it goes through."""
    action = await rig.send(expiry_s=24 * 3600)
    rig.node.script["send"] = [LOST] * 5
    await rig.end(action)
    assert rig.node.calls.count("send") == 6
    assert rig.lnd.settled == {action.id: 1}


async def test_not_found_after_expiry_and_grace_is_refunded(rig: LightningRig) -> None:
    action = await rig.send(expiry_s=600)
    rig.node.script["send"] = [LOST] * 1_000
    await rig.drive_until(action, action.expires_at + timedelta(minutes=1))
    sendings = rig.node.calls.count("send")
    assert sendings > 1
    assert await rig.balance() == HELD
    await rig.drive_until(action, action.expires_at + GRACE - timedelta(minutes=1))
    assert await rig.balance() == HELD
    assert "expired before it was paid" in await failed(rig, action)
    assert await rig.balance() == (BALANCE, 0)
    assert await fact(rig, action) == {
        "state": "failed",
        "account": action.account,
        "reason": "the invoice expired before it was paid",
    }
    assert rig.node.calls.count("send") == sendings, "an expired invoice is not sent"
    assert rig.clock.now() >= action.expires_at + GRACE


async def test_a_failure_after_a_lost_answer_waits_for_the_copy(rig: LightningRig) -> None:
    """A late copy starts a failed payment anew: the coins are not free before that has become impossible."""
    action = await rig.send(expiry_s=600)
    rig.lnd.decide(action.id, Fate.FAIL, Fate.SETTLE)
    rig.node.script["send"] = [LOST]
    await rig.drive_until(action, rig.clock.now() + timedelta(seconds=300))
    assert (await rig.checkpoint(action)).phase == "payment_failed"
    assert await rig.balance() == HELD
    assert await rig.store.facts(kind=PAYMENT) == [], "a fact is final, and this may yet be paid"
    rig.lnd.send(action.invoice, fee_limit_msat=1_000)  # here it is
    await rig.end(action)
    assert rig.lnd.settled == {action.id: 1}
    assert await rig.balance() == (BALANCE - 21_100, 0)
    assert (await fact(rig, action))["state"] == "settled"


async def test_a_failure_after_a_lost_answer_ends_in_time(rig: LightningRig) -> None:
    action = await rig.send(expiry_s=600)
    rig.lnd.decide(action.id, Fate.FAIL)
    rig.node.script["send"] = [LOST]
    await failed(rig, action)
    assert rig.clock.now() >= action.expires_at + GRACE
    assert await rig.balance() == (BALANCE, 0)


async def test_a_late_copy_is_noticed_long_before_the_invoice_expires(rig: LightningRig) -> None:
    """It is looked for now and then, however long the invoice is good for."""
    action = await rig.send(expiry_s=30 * 24 * 3600)
    rig.lnd.decide(action.id, Fate.FAIL, Fate.SETTLE)
    rig.node.script["send"] = [LOST]
    await rig.drive_until(action, rig.clock.now() + timedelta(days=1))
    assert (await rig.checkpoint(action)).phase == "payment_failed"
    looks = rig.node.calls.count("track")
    assert 24 <= looks <= 30
    rig.lnd.send(action.invoice, fee_limit_msat=1_000)
    before = rig.clock.now()
    await rig.end(action)
    assert rig.clock.now() - before <= COPY_POLL + timedelta(minutes=1)
    assert rig.lnd.settled == {action.id: 1}


async def test_what_the_checkpoint_tells_of_is_not_remembered_as_well(rig: LightningRig) -> None:
    """A process that goes on for years remembers nothing of the payments that it made."""
    action = await rig.send()
    rig.node.script["send"] = [LOST]
    await rig.go(action)
    assert rig.wallet.is_unanswered(action.id)
    await rig.end(action)
    assert not rig.wallet.is_unanswered(action.id)


async def test_a_refused_macaroon_leaves_no_copy(rig: LightningRig) -> None:
    """What was refused at the door cannot arrive late: a failure afterwards frees the coins at once."""
    action = await rig.send()
    rig.lnd.decide(action.id, Fate.FAIL)
    rig.node.script["send"] = [ConfigurationError("the node refuses the macaroon")]
    before = rig.clock.now()
    await failed(rig, action)
    assert rig.clock.now() - before < timedelta(minutes=10)


async def test_an_in_flight_payment_that_the_node_forgot_is_kept_for_a_person(rig: LightningRig) -> None:
    """L-D9: it is neither sent again nor given up, however long that lasts."""
    action = await rig.send()
    rig.node.script["track"] = [None, *[None] * 100]
    await rig.drive_until(action, rig.clock.now() + timedelta(hours=5))
    checkpoint = await rig.checkpoint(action)
    assert (checkpoint.status, checkpoint.phase) == (Status.PARKED, "in_flight")
    assert checkpoint.error is not None
    assert "were its records deleted?" in checkpoint.error.message
    assert rig.node.calls.count("send") == 1
    assert await rig.balance() == HELD
    rig.node.script["track"] = []
    await rig.end(action)


@pytest.mark.parametrize(
    "answer",
    [
        Payment("00" * 32, PaymentStatus.FAILED),
        Payment("", PaymentStatus.SUCCEEDED, SecretStr("11" * 32)),
        RejectedError("no such payment"),
    ],
)
async def test_what_proves_nothing_changes_nothing(rig: LightningRig, answer: object) -> None:
    action = await rig.send()
    if isinstance(answer, Payment) and not answer.payment_hash:
        answer = Payment(action.id, PaymentStatus.SUCCEEDED, SecretStr("11" * 32))
    rig.node.script["track"] = [answer]
    assert (await rig.go(action)).outcome is Outcome.PARKED
    assert await rig.balance() == HELD
    assert await rig.store.facts(kind=PAYMENT) == []
    await rig.end(action)
    assert rig.lnd.settled == {action.id: 1}


async def test_another_node_is_not_asked(rig: LightningRig) -> None:
    """It would know nothing of the payment, and pay it again."""
    action = await rig.send()
    rig.restart()
    rig.node.script["identity"] = [NodeIdentity("03" * 33, "regtest")]
    rig.node.calls.clear()
    await rig.go(action)
    checkpoint = await rig.checkpoint(action)
    assert checkpoint.error is not None
    assert "connect the wallet to its own node again" in checkpoint.error.message
    assert rig.node.calls == ["identity"]
    assert await rig.balance() == HELD
    await rig.end(action)  # the settings are mended meanwhile


async def test_it_can_be_cancelled_until_it_is_sent(rig: LightningRig) -> None:
    """L-C8."""
    early, late = await rig.send(1_000), await rig.send(2_000)
    rig.lnd.decide(late.id, Fate.HOLD)
    assert await rig.engine.cancel(LightningSend, early.id)
    assert "given up before it was sent" in await failed(rig, early)
    await rig.go(late)
    assert await rig.engine.cancel(LightningSend, late.id)
    await rig.go(late)
    assert (await rig.checkpoint(late)).status is Status.PARKED
    rig.lnd.decide(late.id, Fate.SETTLE)
    await rig.end(late)
    assert rig.lnd.settled == {late.id: 1}


async def test_payments_side_by_side_share_one_coin(rig: LightningRig) -> None:
    """L-C9: a payment holds what it may cost, not the whole balance; who loses a race chooses again."""
    invoices = [rig.lnd.invoice(10_000) for _ in range(5)]
    hashes = await asyncio.gather(*(pay(rig.engine, rig.wallet, invoice, fee_limit_msat=1_000) for invoice in invoices))
    await asyncio.gather(*(rig.engine.drive(LightningSend, one, DriveMode.UNTIL_DONE) for one in hashes))
    assert await rig.balance() == (BALANCE - 5 * 10_100, 0)
    assert rig.lnd.settled == dict.fromkeys(hashes, 1)


async def test_two_wallets_of_one_node_pay_an_invoice_once(rig: LightningRig) -> None:
    """The second one, on a file of its own, finds it paid."""
    async with LightningRig(MemoryStore(), rig.lnd) as other:
        invoice = rig.lnd.invoice(21_000)
        ids = [await pay(one.engine, one.wallet, invoice, fee_limit_msat=1_000) for one in (rig, other)]
        for one, payment_hash in zip((rig, other), ids, strict=True):
            driven = await one.engine.drive(LightningSend, payment_hash, DriveMode.UNTIL_DONE)
            assert driven.result is not None
            assert driven.result.fee_msat == 100
        assert rig.lnd.settled == {ids[0]: 1}


async def test_an_allotment_is_booked_once(rig: LightningRig) -> None:
    again = Allot(account=rig.lnd.identity.account, label="channel", amount_msat=5)
    assert not (await rig.engine.start(again)).is_new
    assert await rig.balance() == (BALANCE, 0)
