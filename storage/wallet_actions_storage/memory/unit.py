"""One atomic unit: worked out on the side, then written in one go.

Nothing of the tables changes until `commit`, and `commit` cannot fail, so a unit that raises leaves no trace (L-S1).
"""

from __future__ import annotations

from wallet_actions.coins import ActionKey, Coin, CoinState, Fact
from wallet_actions.errors import InvariantError, ReservationError, UsageError
from wallet_actions.store import Delta, NewAction
from wallet_actions_storage.memory.tables import Record, Tables, check_times, with_holder


class Unit:
    """The changes of one unit over the tables as they stand."""

    __slots__ = ("_coins", "_counters", "_facts", "_records", "_tables")

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._coins: dict[str, Coin] = {}
        self._counters: dict[str, int] = {}
        self._facts: dict[tuple[str, str], tuple[ActionKey, Fact]] = {}
        self._records: dict[tuple[str, str], Record] = {}

    def create(self, new: NewAction) -> Record | None:
        """Take in a new action, its delta and its children; None where its kind and id are there already."""
        key = new.checkpoint.key
        if key in self._tables.records or key in self._records:
            return None
        if new.checkpoint.version != 0:
            raise UsageError("an action starts at version 0")
        check_times(new.checkpoint)
        self.change(key, new.delta)
        record = self._records[key] = Record(new.checkpoint, new.notes)
        self.start(new.delta)
        return record

    def change(self, key: ActionKey, delta: Delta) -> None:
        """Take in what an action writes beside its checkpoint, in the port's order; children come last, by `start`."""
        if delta.add:
            self._add(delta.add)
        if delta.release:
            self._release(key, delta.release)
        if delta.reserve:
            self._reserve(key, delta.reserve)
        if delta.spend:
            self._spend(key, delta.spend)
        for name, value in delta.counters:
            known = self._counters.get(name, self._tables.counters.get(name, 0))
            self._counters[name] = max(known, value)
        for fact in delta.facts:
            self._write_fact(key, fact)
        if delta.statements:
            raise UsageError("the memory store has no SQL: statements need a store with a database")

    def start(self, delta: Delta) -> None:
        """Take in the children of a delta."""
        for child in delta.start:
            self.create(child)

    def release_all(self, key: ActionKey) -> None:
        """Free every coin that an action still holds (L-C4)."""
        held = dict.fromkeys(self._tables.coins_of.get(key, ()))
        held.update(dict.fromkeys(self._coins))
        for coin_id in held:
            coin = self._coin(coin_id)
            if coin is not None and coin.state is CoinState.RESERVED and coin.holder == key:
                self._coins[coin_id] = with_holder(coin, CoinState.SPENDABLE, None)

    def commit(self) -> None:
        """Write everything."""
        tables = self._tables
        for coin in self._coins.values():
            tables.put_coin(coin)
        tables.counters.update(self._counters)
        for owner, fact in self._facts.values():
            tables.put_fact(owner, fact)
        for record in self._records.values():
            tables.insert(record)

    def _coin(self, coin_id: str) -> Coin | None:
        return self._coins.get(coin_id) or self._tables.coins.get(coin_id)

    def _add(self, coins: tuple[Coin, ...]) -> None:
        for coin in coins:
            known = self._coin(coin.id)
            if known is None:
                self._coins[coin.id] = with_holder(coin, CoinState.SPENDABLE, None)
            elif (known.account, known.unit, known.amount) != (coin.account, coin.unit, coin.amount):
                raise InvariantError(
                    f"coin {coin.id} is known already, with another account, unit or amount",
                    rule="a coin's account, unit and amount never change",
                )

    def _release(self, key: ActionKey, coin_ids: tuple[str, ...]) -> None:
        for coin_id in coin_ids:
            coin = self._known(key, coin_id)
            if coin.state is not CoinState.RESERVED:
                continue
            if coin.holder != key:
                raise InvariantError(
                    f"{key} would release coin {coin_id}, which {coin.holder} holds",
                    rule="an action releases only coins that it holds",
                )
            self._coins[coin_id] = with_holder(coin, CoinState.SPENDABLE, None)

    def _reserve(self, key: ActionKey, coin_ids: tuple[str, ...]) -> None:
        taken: dict[str, None] = {}
        for coin_id in coin_ids:
            coin = self._known(key, coin_id)
            if coin.state is CoinState.SPENDABLE:
                self._coins[coin_id] = with_holder(coin, CoinState.RESERVED, key)
            elif coin.state is CoinState.SPENT or coin.holder != key:
                taken[coin_id] = None
        if taken:
            raise ReservationError(tuple(taken))

    def _spend(self, key: ActionKey, coin_ids: tuple[str, ...]) -> None:
        for coin_id in coin_ids:
            coin = self._known(key, coin_id)
            if coin.holder != key:
                raise InvariantError(
                    f"{key} would spend coin {coin_id}, which it does not hold",
                    rule="an action spends only coins that it holds",
                )
            if coin.state is CoinState.RESERVED:
                self._coins[coin_id] = with_holder(coin, CoinState.SPENT, key)

    def _known(self, key: ActionKey, coin_id: str) -> Coin:
        coin = self._coin(coin_id)
        if coin is None:
            raise InvariantError(f"{key} names coin {coin_id}, which does not exist", rule="a coin is added before use")
        return coin

    def _write_fact(self, key: ActionKey, fact: Fact) -> None:
        name = (fact.kind, fact.key)
        staged = self._facts.get(name)
        if staged is not None:
            owner, known = staged
        elif (row := self._tables.facts.get(name)) is not None:
            owner, known = row.owner, row.fact
        else:
            self._facts[name] = (key, fact)
            return
        if owner == key:
            self._facts[name] = (key, fact)
        elif known.body != fact.body:
            raise InvariantError(
                f"{key} would write over the fact {fact.kind} {fact.key} of {owner}",
                rule="a fact is written over only by the action that wrote it",
            )
