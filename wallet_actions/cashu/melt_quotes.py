"""What a mint's offer to pay an invoice is held against, before any coin is (NUT-05, NUT-15)."""

from __future__ import annotations

import re
from typing import Final

from wallet_actions.cashu.errors import WrongQuoteError
from wallet_actions.cashu.quotes import MeltQuote

FEE_ALWAYS_ACCEPTED, FEE_SHARE_ACCEPTED = 100, 10  # in the unit; one in so many of the amount

_INVOICE: Final = re.compile(r"ln[a-z]+?(?:([0-9]+)([munp]?))?1[ac-hj-np-z02-9]+")
_MOST_DIGITS: Final = 30  # more than all money there is; Python does not read any number of them
_PICO: Final = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}  # of a bitcoin
_PICO_OF_MSAT: Final = 10
_MSAT_OF_UNIT: Final = {"sat": 1_000, "msat": 1}


def invoice_msat(request: str) -> int | None:
    """What an invoice asks for, in thousandths of a satoshi; None where it does not say, or is none.

    Source: BOLT-11, human-readable part.
    """
    written = _INVOICE.fullmatch(request.lower())
    if written is None or written[1] is None:
        return None
    return -(-int(written[1][:_MOST_DIGITS]) * _PICO[written[2]] // _PICO_OF_MSAT)


def require_amount(quote: MeltQuote, request: str, unit: str, partial_msat: int | None = None) -> None:
    """Check that the mint asks for what it shall pay; units other than sat and msat have no rate to check them by.

    Args:
        partial_msat: the part of the invoice that it shall pay; None for all of it.
    Raises:
        WrongQuoteError: for another amount.
    """
    msat = invoice_msat(request) if partial_msat is None else partial_msat
    if msat is None or unit not in _MSAT_OF_UNIT:
        return
    whole, rest = divmod(msat, _MSAT_OF_UNIT[unit])
    if quote.amount not in {whole, whole + bool(rest)}:
        raise WrongQuoteError("the mint offers to pay another amount than the invoice's")


def require_fee(quote: MeltQuote, max_fee: int | None) -> None:
    """Check that the mint does not want to keep too much for fees.

    Args:
        max_fee: the most to accept, in the unit; by default a tenth of the amount, or 100 where that is more.
    Raises:
        WrongQuoteError: it does.
    """
    most = max(FEE_ALWAYS_ACCEPTED, quote.amount // FEE_SHARE_ACCEPTED) if max_fee is None else max_fee
    if quote.fee_reserve > most:
        raise WrongQuoteError(
            f"the mint wants to keep {quote.fee_reserve} for fees, more than the {most} allowed; "
            "pass max_fee to accept it"
        )
