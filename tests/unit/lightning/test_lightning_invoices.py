"""Invoices that cannot be paid are told apart, and nothing is started."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.lightning.rig import BALANCE, LightningRig
from wallet_actions.errors import UsageError
from wallet_actions.lightning import (
    InsufficientFundsError,
    InvoiceError,
    InvoiceFault,
    LightningSend,
    pay,
    read_invoice,
)
from wallet_actions.lightning.invoices import payment_hash_of
from wallet_actions.lightning.sandbox import SandboxNode
from wallet_actions.testing.clock import FakeClock

pytestmark = pytest.mark.anyio

NODE = SandboxNode(seed="invoices", clock=FakeClock())
GOOD = NODE.invoice(21_000)
# From BOLT 11's examples: on mainnet, 2,500 µBTC, for coffee.
COFFEE = (
    "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqw"
    "zqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0"
    "ymjpf39tuven09sam30g4vgpfna3rh"
)


def test_what_an_invoice_says() -> None:
    earlier = datetime(2017, 6, 1, tzinfo=UTC)
    invoice = read_invoice(f" LIGHTNING:{COFFEE.upper()} ", network="mainnet", now=earlier)
    assert invoice.payment_hash == "0001020304050607080900010203040506070809000102030405060708090102"
    assert (invoice.amount_msat, invoice.text) == (250_000_000, COFFEE)
    assert invoice.payee == "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad"
    assert invoice.expires_at.timestamp() == 1496314658 + 60
    assert COFFEE not in repr(invoice)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (NODE.invoice(21_000, expiry_s=60, age_s=61), InvoiceFault.EXPIRED),
        (NODE.invoice(21_000, network="mainnet"), InvoiceFault.NETWORK),
        (NODE.invoice(None), InvoiceFault.AMOUNTLESS),
        (NODE.invoice(21_000, is_own=True), InvoiceFault.OWN),
        (GOOD[:-1] + ("q" if GOOD[-1] != "q" else "p"), InvoiceFault.MALFORMED),
        (GOOD[:40] + GOOD[40:].upper(), InvoiceFault.MALFORMED),
        (GOOD[:80], InvoiceFault.MALFORMED),
        ("", InvoiceFault.MALFORMED),
        ("lnbcrt1", InvoiceFault.MALFORMED),
        ("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", InvoiceFault.MALFORMED),
        ("ln" * 5_000, InvoiceFault.MALFORMED),
    ],
    ids=[
        "expired",
        "network",
        "amountless",
        "own",
        "checksum",
        "mixed case",
        "cut",
        "empty",
        "prefix",
        "address",
        "long",
    ],
)
async def test_an_invoice_that_cannot_be_paid(text: str, fault: InvoiceFault) -> None:
    """One clear error, and nothing is started or held."""
    async with LightningRig(lnd=SandboxNode(seed="invoices", balance_msat=BALANCE, clock=FakeClock())) as rig:
        rig.clock.set_wall(NODE.clock.now())
        with pytest.raises(InvoiceError) as caught:
            await pay(rig.engine, rig.wallet, text)
        assert caught.value.fault is fault
        assert not text or text not in str(caught.value)
        assert await rig.engine.operator.list_actions(kinds=["lightning_send"]) == []
        assert [balance.reserved for balance in await rig.wallet.balances()] == [0]
        assert "send" not in rig.node.calls


async def test_an_invoice_beyond_the_means() -> None:
    async with LightningRig() as rig:
        with pytest.raises(InsufficientFundsError, match="not enough funds") as caught:
            await pay(rig.engine, rig.wallet, rig.lnd.invoice(1_000_000), fee_limit_msat=1)
        assert (caught.value.needed_msat, caught.value.available_msat) == (1_000_001, 1_000_000)
        with pytest.raises(UsageError, match="not negative"):
            await pay(rig.engine, rig.wallet, rig.lnd.invoice(1_000), fee_limit_msat=-1)
        for timeout_s in (0, 24 * 3600 + 1):
            with pytest.raises(UsageError, match="at most a day"):
                await LightningSend.of(rig.wallet, rig.lnd.invoice(1_000), timeout_s=timeout_s)
        assert await rig.engine.operator.list_actions(kinds=["lightning_send"]) == []


@given(at=st.integers(0, len(GOOD) - 1), char=st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l1b o"))
def test_a_damaged_invoice_is_malformed(at: int, char: str) -> None:
    damaged = GOOD[:at] + char + GOOD[at + 1 :]
    if damaged.strip() != GOOD:
        with pytest.raises(InvoiceError) as caught:
            payment_hash_of(damaged)
        assert caught.value.fault is InvoiceFault.MALFORMED


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda raw: "lnbcrt1" + raw.hex()))
def test_whatever_is_no_invoice_is_malformed(text: str) -> None:
    with pytest.raises(InvoiceError):
        payment_hash_of(text)
