"""Starting what spends coins, where others choose among the same coins at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from wallet_actions.cashu.wallet import CashuWallet
from wallet_actions.errors import ReservationError

T = TypeVar("T")

TRIES = 20
"""Of some processes that choose among the same coins at the same time, all but one lose each time."""


async def start_with_coins(
    wallet: CashuWallet,
    mint_url: str,
    chosen: T,
    *,
    start: Callable[[T], Awaitable[object]],
    choose_again: Callable[[T], Awaitable[T]],
) -> T:
    """Start something with the coins that were chosen for it, or with others where those were taken meanwhile.

    In one process, those who lost choose and start one after the other, so that each gets its turn however many they
    are; only other processes can take what was chosen then.

    Args:
        chosen: an action, or several, with coins.
        start: reserves them.
    Returns:
        What was started.
    Raises:
        ReservationError: other processes take the coins faster than they can be chosen. Nothing was written.
        Whatever `start` and `choose_again` raise.
    """
    try:
        await start(chosen)
    except ReservationError:
        pass
    else:
        return chosen
    taken: ReservationError | None = None
    async with wallet.choosing(mint_url):
        for _ in range(TRIES - 1):
            chosen = await choose_again(chosen)
            try:
                await start(chosen)
            except ReservationError as error:
                taken = error
            else:
                return chosen
    raise taken or ReservationError(())
