"""One invoice, paid by several mints at the same time (NUT-15).

Each part is a `Melt` of its own: with its own offer, its own coins, its own end, and its own row in the history. They
are started in one write, so that a crash leaves either all of them or none. The payee's node takes the payment only
when all parts have arrived, and gives the parts back otherwise; so either each of them is paid in the end, or each
fails and frees its coins. What each mint says is proved for each alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from wallet_actions.cashu.errors import WrongQuoteError
from wallet_actions.cashu.melt import Melt
from wallet_actions.cashu.melt_quotes import invoice_msat
from wallet_actions.cashu.transport import normalize_mint_url
from wallet_actions.cashu.wallet import CashuWallet
from wallet_actions.errors import RejectedError, UsageError
from wallet_actions.transition import Changes, Start

PARTS = 15


async def melts_of(
    wallet: CashuWallet, request: str, parts_msat: Mapping[str, int], unit: str = "sat", *, max_fee: int | None = None
) -> tuple[Melt, ...]:
    """Ask each mint what its part costs, and choose the coins. Nothing is written or reserved yet.

    Args:
        request: a bolt11 invoice that names its amount.
        parts_msat: mint URL → how much of the invoice it shall pay, in thousandths of a satoshi.
        max_fee: for each part, see `Melt.of`.
    Returns:
        The parts, in the order of the mints.
    Raises:
        UsageError: fewer than two mints, one that is named twice, or parts that do not come to what the invoice asks
            for.
        RejectedError: a mint does not pay parts in this unit; otherwise as `Melt.of`.
        TransientError: a mint did not answer.
    """
    if len({normalize_mint_url(url) for url in parts_msat}) != len(parts_msat) or len(parts_msat) < 2:
        raise UsageError("a payment in parts needs two mints or more, each named once")
    if any(type(part) is not int or part <= 0 for part in parts_msat.values()):
        raise UsageError("a part of a payment must be a positive integer, in msat")
    whole = invoice_msat(request)
    if whole is None:
        raise UsageError("only an invoice that names its amount can be paid in parts")
    if sum(parts_msat.values()) != whole:
        raise UsageError(f"the parts come to {sum(parts_msat.values())} msat, and the invoice asks for {whole}")
    for url in parts_msat:
        if not (await wallet.mint(url).details()).offers(PARTS, unit):
            raise RejectedError(f"the mint {normalize_mint_url(url)} does not pay parts of an invoice in {unit}")
    melts = [
        await Melt.of(wallet, url, request, unit, max_fee=max_fee, partial_msat=part)
        for url, part in parts_msat.items()
    ]
    for melt in melts:
        if await wallet.store.load(melt.key) is not None:
            raise WrongQuoteError("the mint gave a quote that it had given before; ask for another one")
    return tuple(melts)


def opening_of(melts: Sequence[Melt]) -> Changes:
    """What goes with the start of the first part: what it brings itself, and all the others."""
    first, *others = melts
    return replace(first.opening, start=[Start(melt, melt.opening) for melt in others])
