"""The world of the kit's small actions, and the wallet that they act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from pydantic import JsonValue, TypeAdapter

from tests.kit.peers import MINT, Bank, Desk, Mint
from wallet_actions import Action, Changes, Coin, Done, Executor, Phase, RejectedError, Store, Transition
from wallet_actions.clock import Clock
from wallet_actions.coins import ActionKey, CoinState
from wallet_actions.registry import Registry
from wallet_actions.testing.life import FaultKind, Life
from wallet_actions.testing.oracles import Sums
from wallet_actions.testing.world import World

BOOKS: TypeAdapter[tuple[Mint, Bank, Desk]] = TypeAdapter(tuple[Mint, Bank, Desk])


@dataclass(slots=True)
class Wallet:
    """What the small actions act on.

    Attributes:
        memory: what the process only remembers.
    """

    store: Store
    clock: Clock
    mint: Mint
    bank: Bank
    desk: Desk
    memory: dict[str, Any] = field(default_factory=dict)

    async def pick(self, amount: int) -> list[Coin]:
        """Free coins that are worth an amount, as few as come first; too few where there are no more."""
        chosen: list[Coin] = []
        for coin in await self.store.coins(account=MINT, state=CoinState.SPENDABLE):
            if sum(one.amount for one in chosen) < amount:
                chosen.append(coin)
        return chosen

    async def proofs(self, ids: Sequence[str]) -> list[str]:
        """What spends these coins."""
        return [coin.payload for coin in await self.store.coins_by_id(ids)]


class Open(Phase):
    """Nothing has happened."""


class Fund(Action[None, Open], kind="fund"):
    """Coins that are there from the beginning."""

    @property
    def id(self) -> str:
        return "fund"

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


class SmallWorld(World[Wallet]):
    """A mint, a bank and a desk. By default the wallet has one coin of 100 sat.

    Class attributes:
        funds: the amounts of the coins at the beginning.
        refusable: the calls that a peer may refuse.
    """

    funds: ClassVar[Sequence[int]] = (100,)
    refusable: ClassVar[Sequence[str]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.mint, self.bank, self.desk = Mint(), Bank(), Desk()

    def wallet(self, life: Life, store: Store) -> Wallet:
        peers = life.peer(self.mint, "mint"), life.peer(self.bank, "bank"), life.peer(self.desk, "desk")
        return Wallet(store, self.clock, *peers)

    async def prepare(self, store: Store) -> None:
        executor = Executor(store, None, Registry([Fund]), clock=self.clock)
        started = await executor.start(Fund(phase=Open()), Changes(add=self.mint.issue(*self.funds)))
        await executor.drive(started.key)

    async def owed(self) -> Sums:
        return {(MINT, "sat"): sum(self.mint.unspent.values()) - self.mint.promised()}

    def effects(self) -> Mapping[str, int]:
        desk = self.desk
        return self.mint.payments() | self.mint.signed | self.bank.sent | desk.lines | desk.sessions

    def outcomes(self) -> Mapping[ActionKey, bool]:
        """Every kind here is named by the invoice or the payee that it is about."""
        happened = self.mint.payments() | self.bank.sent
        return {ActionKey(kind.kind, name): True for kind in self.kinds for name in happened}

    async def ending(self) -> dict[str, object]:
        """Without the values that counters and nonces had: after a crash there are gaps, and other nonces."""
        by_chance = {f"effect {name}" for name in self.mint.signed | self.desk.sessions}
        return {name: value for name, value in (await super().ending()).items() if name not in by_chance}

    def peers(self) -> JsonValue:
        """For the corpus: all that the peers have in their books."""
        known: JsonValue = BOOKS.dump_python((self.mint, self.bank, self.desk), mode="json")
        return known

    def set_peers(self, known: JsonValue) -> None:
        """For the corpus: have the peers know that."""
        self.mint, self.bank, self.desk = BOOKS.validate_python(known)

    def refusal(self, name: str) -> Exception | None:
        return RejectedError("the peer answered 400: not today") if name in self.refusable else None

    def contradict(self, name: str, answer: Any) -> Any:
        """A mint that was restored from an old copy of its books knows nothing of a payment, for once."""
        return None if name == "mint.look_up" else answer

    def exempt(self, fault: FaultKind, name: str) -> bool:
        """A signing session runs over a stream of its own, in which nothing comes twice."""
        return name == "desk.sign" and fault in (FaultKind.DUPLICATED, FaultKind.DUPLICATED_LATE)

    def secrets(self) -> Sequence[str]:
        return [*(f"proof-c{number}" for number in range(1, 10)), "proof-"]
