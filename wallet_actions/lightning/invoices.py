"""Invoices (BOLT 11): read and checked before anything is started."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

import bolt11

from wallet_actions.coins import MAX_AMOUNT
from wallet_actions.lightning.errors import InvoiceError, InvoiceFault

PREFIXES = {"mainnet": "bc", "testnet": "tb", "testnet4": "tb", "signet": "tbs", "regtest": "bcrt"}
"""By the name of a network, as LND calls it, what its invoices carry after `ln`."""

MOST_CHARACTERS = 7089  # what fits into one QR code
LAST_MOMENT_S = 253_370_764_800  # the year 9999, with room to count on from


@dataclass(frozen=True, slots=True)
class Invoice:
    """What an invoice says.

    Attributes:
        text: in lower case, without `lightning:`.
        payment_hash: 64 hexadecimal digits; what names the payment at every node.
        amount_msat: in thousandths of a satoshi, ≥ 1.
        expires_at: from then on a node refuses to pay it.
        payee: the public key of the node that is paid.
    """

    text: str = field(repr=False)
    payment_hash: str
    amount_msat: int
    expires_at: datetime
    payee: str


def read_invoice(text: str, *, network: str, now: datetime) -> Invoice:
    """Read an invoice, and check that it can be paid.

    Args:
        network: of the node that shall pay, as LND names it: `mainnet`, `regtest`, ….
        now: the wall clock.
    Raises:
        InvoiceError: malformed (its signature included), of another network, without an amount, or expired.
    Source: BOLT 11.
    """
    invoice, prefix = _read(text)
    if PREFIXES.get(network) != prefix:
        foreign = next((name for name, known in PREFIXES.items() if known == prefix), prefix)
        raise InvoiceError(f"this invoice is for {foreign}, and the node is on {network}", InvoiceFault.NETWORK)
    if not invoice.amount_msat:
        raise InvoiceError("this invoice names no amount; ask for one that does", InvoiceFault.AMOUNTLESS)
    if now >= invoice.expires_at:
        raise InvoiceError(
            f"this invoice expired at {invoice.expires_at:%Y-%m-%d %H:%M:%S} UTC; ask for a new one",
            InvoiceFault.EXPIRED,
        )
    return invoice


def payment_hash_of(text: str) -> str:
    """The payment hash that an invoice names, whether it can be paid or not.

    Raises:
        InvoiceError: malformed.
    """
    return _read(text)[0].payment_hash


def _read(text: str) -> tuple[Invoice, str]:
    plain = text.strip()
    plain = plain[len("lightning:") :] if plain[:10].lower() == "lightning:" else plain
    # The library takes mixed case, more than a QR code holds, and parts of a msat; nodes do not.
    readable = len(plain) <= MOST_CHARACTERS and plain in (plain.lower(), plain.upper())
    is_whole = re.match(r"lnbc(?:rt)?\d*[1-9]p1", plain.lower()) is None
    if not readable or not is_whole:
        raise _malformed()
    try:
        decoded = bolt11.decode(plain)
        expires_s = min(int(decoded.date) + int(decoded.expiry), LAST_MOMENT_S)
        invoice = Invoice(
            text=plain.lower(),
            payment_hash=decoded.payment_hash,
            amount_msat=int(decoded.amount_msat or 0),
            expires_at=datetime.fromtimestamp(expires_s, UTC),
            payee=str(decoded.payee),
        )
    except Exception:  # noqa: BLE001 the library lets through what its parts raise on a broken text
        raise _malformed() from None
    if invoice.amount_msat > MAX_AMOUNT:
        raise _malformed()
    return invoice, decoded.currency


def _malformed() -> InvoiceError:
    return InvoiceError("this is not a Lightning invoice, or it was damaged on its way", InvoiceFault.MALFORMED)
