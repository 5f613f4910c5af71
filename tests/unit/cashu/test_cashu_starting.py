"""Many who want coins at the same time: each gets its turn, as long as there are coins."""

from __future__ import annotations

import anyio
import pytest

from tests.unit.cashu.fake_mint import URL, FakeMint
from wallet_actions.cashu import CashuWallet, Seed
from wallet_actions.cashu.starting import TRIES, start_with_coins
from wallet_actions.errors import ReservationError
from wallet_actions_storage import MemoryStore

pytestmark = pytest.mark.anyio


class Purse:
    """Coins that are numbered; everybody would take the first that is free."""

    def __init__(self, coins: int) -> None:
        self.free = set(range(coins))
        self.wallet = CashuWallet(MemoryStore(), Seed(bytes(16)), connect=FakeMint().client)

    async def choose(self, _: int = 0) -> int:
        first = min(self.free)
        await anyio.lowlevel.checkpoint()  # as long as a look at the store takes
        return first

    async def start(self, coin: int) -> None:
        await anyio.lowlevel.checkpoint()
        if coin not in self.free:
            raise ReservationError([str(coin)])
        self.free.remove(coin)


async def test_fifty_at_once_all_get_a_coin() -> None:
    """L-C2: a lost race is run again; those of one process do not wear each other down."""
    purse = Purse(50)
    got: list[int] = []

    async def take() -> None:
        chosen = await purse.choose()
        got.append(await start_with_coins(purse.wallet, URL, chosen, start=purse.start, choose_again=purse.choose))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(take)
    assert sorted(got) == list(range(50))


async def test_where_others_are_always_faster_it_ends_with_what_was_taken() -> None:
    purse = Purse(50)
    tries: list[int] = []

    async def start(coin: int) -> None:
        tries.append(coin)
        await purse.start(coin)
        raise ReservationError([str(coin)])  # another process was faster

    with pytest.raises(ReservationError, match="1 of the chosen coins"):
        await start_with_coins(purse.wallet, URL, 0, start=start, choose_again=purse.choose)
    assert tries == list(range(TRIES))
