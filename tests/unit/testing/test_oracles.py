"""Each oracle alone: silent on a store that is in order, and exact on one that is not (T4)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from tests.unit.storage.sqlite_kit import SECRET, checkpoint, coin, key, new, step
from wallet_actions.checkpoint import ErrorRecord, HistoryEntry, Status
from wallet_actions.coins import ActionKey, Coin, CoinState
from wallet_actions.store import Delta, Store
from wallet_actions.testing import oracles
from wallet_actions.testing.world import Listener
from wallet_actions_storage import MemoryStore

pytestmark = pytest.mark.anyio

MINT = ("https://mint.example", "sat")


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """`a` is done, and has left three coins of 4; `b` is under way, and holds the first of them."""
    async with MemoryStore() as store:
        await store.create(new("a", Delta(add=tuple(coin(f"c{number}", 4) for number in (1, 2, 3)))))
        await store.finish(step("a", 1, status=Status.DONE))
        await store.create(new("b", Delta(reserve=("c1",))))
        yield store


class Lying:
    """A store that answers some reads with something else."""

    def __init__(self, store: Store, **answers: Any) -> None:
        self._store = store
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        if name not in self._answers:
            return getattr(self._store, name)

        async def read(*args: Any, **kwargs: Any) -> Any:
            return self._answers[name](await getattr(self._store, name)(*args, **kwargs))

        return read


def lying(store: Store, **answers: Any) -> Store:
    return cast("Store", Lying(store, **answers))


async def test_value_is_conserved(store: Store) -> None:
    """G4: in each account, against the peer's own books; also where one of the two knows nothing of it."""
    other = ("https://other.example", "sat")

    assert await oracles.conserved(store, {MINT: 12}) == []
    assert await oracles.conserved(store, {MINT: 11, other: 5}) == [
        "https://mint.example: the wallet owns 12 sat (4 of them reserved), its peer says 11",
        "https://other.example: the wallet owns 0 sat, its peer says 5",
    ]
    assert await oracles.conserved(store, {}) == [
        "https://mint.example: the wallet owns 12 sat (4 of them reserved), its peer says 0"
    ]


@pytest.mark.parametrize(
    ("state", "holder", "said"),
    [
        (CoinState.SPENDABLE, key("b"), "coin c2 is spendable, and its holder is pay b"),
        (CoinState.RESERVED, None, "coin c2 is reserved, and its holder is nobody"),
        (CoinState.RESERVED, key("z"), "coin c2 is reserved by pay z, which does not exist"),
        (CoinState.RESERVED, key("a"), "coin c2 is reserved by pay a, which is done"),
    ],
)
async def test_coins_are_held_rightly(store: Store, state: CoinState, holder: ActionKey | None, said: str) -> None:
    """G5, L-C1, L-C10: no coin that is free and held, none that is held by nobody or by what has ended."""

    def told(coins: Sequence[Coin]) -> list[Coin]:
        return [replace(one, state=state, holder=holder) if one.id == "c2" else one for one in coins]

    assert await oracles.held_rightly(store) == []
    assert await oracles.held_rightly(lying(store, coins=told)) == [said]


def test_an_effect_happens_once() -> None:
    assert oracles.once({"a": 1, "b": 0}) == []
    assert oracles.once({"b": 3, "a": 2, "c": 1}) == ["a had 2 effects at the peer", "b had 3 effects at the peer"]


async def test_an_action_tells_the_truth(store: Store) -> None:
    """L-S9, L-C5: what is under way, and what the peer's books do not name, is not judged."""
    await store.create(new("d"))
    await store.finish(step("d", 1, status=Status.FAILED))

    assert await oracles.truthful(store, {key("a"): True, key("b"): True, key("d"): False}) == []
    assert await oracles.truthful(store, {key("a"): False, key("b"): False, key("d"): True}) == [
        "pay a is done, and its peer has not done it",
        "pay d is failed, and its peer has done it",
    ]


def without_the_last(entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    return [entry for entry in entries if entry.version != 1]


def another_end(entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    return [replace(entry, status=Status.FAILED) if entry.version == 1 else entry for entry in entries]


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (without_the_last, "pay a: the history tells of 1 versions, the action has 2"),
        (lambda entries: [], "pay a: the history tells of 0 versions, the action has 2"),
        (another_end, "pay a is done, its history ends with failed"),
    ],
)
async def test_the_history_is_complete(store: Store, lie: Any, said: str) -> None:
    assert await oracles.history_complete(store) == []
    assert (await oracles.history_complete(lying(store, history=lie)))[0] == said


async def test_what_has_ended_is_not_written_again(store: Store) -> None:
    """L-S9."""

    def went_on(entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
        return [*entries, replace(entries[-1], version=2, status=Status.RUNNING)] if len(entries) > 1 else list(entries)

    def ended_twice(entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
        return [replace(entry, status=Status.DONE) for entry in entries] if len(entries) > 1 else list(entries)

    assert await oracles.terminal_is_final(store) == []
    assert await oracles.terminal_is_final(lying(store, history=went_on)) == [
        "pay a was written again after it had ended at version 1"
    ]
    assert await oracles.terminal_is_final(lying(store, history=ended_twice)) == [
        "pay a was written again after it had ended at version 0"
    ]


async def test_everything_has_ended(store: Store) -> None:
    """Liveness, once the faults have stopped (G8)."""
    assert await oracles.all_ended(store) == ["pay b is running in unpaid"]
    stuck = replace(checkpoint("b", 1, status=Status.STUCK), error=ErrorRecord("InvariantError", "own bug"))
    await store.save(replace(step("b", 1), checkpoint=stuck))
    assert await oracles.all_ended(store) == ["pay b is stuck in unpaid: own bug"]
    await store.finish(step("b", 2, status=Status.DONE))
    assert await oracles.all_ended(store) == []


async def test_no_secret_is_told(store: Store) -> None:
    """What a store tells people; and of a text that has a secret in it, everything but the secret is told."""
    assert oracles.unspoken(await oracles.spoken_by(store), [SECRET, ""]) == []
    assert oracles.unspoken(["all is well", f"lost {SECRET}, and abc"], [SECRET, "abc", ""]) == [
        "2 secrets in: lost ***, and ***"
    ]
    assert oracles.masked("abc abcdef", ["abc", "abcdef", ""]) == "*** ***"
    told = replace(checkpoint("b", 1), error=ErrorRecord("RejectedError", f"not {SECRET}"))
    await store.save(replace(step("b", 1), checkpoint=told))
    assert oracles.unspoken(await oracles.spoken_by(store), [SECRET])


async def test_the_end_is_compared_in_what_must_not_differ(store: Store) -> None:
    clean = await oracles.ending(store)
    await store.finish(step("b", 1, status=Status.FAILED))
    other = await oracles.ending(store)

    assert oracles.differences(clean, clean) == []
    assert oracles.differences(clean, other) == [
        "action pay b: 'failed', without a fault 'running'",
        "balance https://mint.example sat: (12, 0), without a fault (8, 4)",
    ]


async def test_all_pages_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An oracle looks at everything, however little comes at once."""
    for number in range(5):
        await store.create(new(f"more-{number}"))
    monkeypatch.setattr(oracles, "PAGE", 2)

    assert len(await oracles.all_actions(store)) == 7
    assert [one.id for one in await oracles.all_coins(store)] == ["c1", "c2", "c3"]


def logged(error: Exception) -> list[str]:
    logger = logging.getLogger("an app")
    with Listener() as listener:
        try:
            raise error
        except Exception:
            logger.exception("it failed: %s", "so", extra={"order": "o-1"})
    return listener.said


def test_what_is_logged_is_heard_with_all_of_its_traceback() -> None:
    """A secret in the error behind the error is printed by every handler of an app, and so has to be heard here."""
    error = RuntimeError("could not pay")
    error.__cause__ = ValueError(f"no such proof: {SECRET}")
    group = ExceptionGroup("both failed", [ValueError(SECRET), ValueError("other")])

    for one in (error, group, ValueError(SECRET)):
        (said,) = logged(one)
        assert "it failed: so" in said
        assert "'order': 'o-1'" in said
        assert oracles.unspoken([said], [SECRET])
    hidden = RuntimeError("could not pay")
    hidden.__context__, hidden.__suppress_context__ = ValueError(SECRET), True
    assert not oracles.unspoken(logged(hidden), [SECRET]), "raised from None: nobody prints it"
    noted = RuntimeError("could not pay")
    noted.add_note(SECRET)
    assert oracles.unspoken(logged(noted), [SECRET])
    assert not oracles.unspoken(logged(RuntimeError("could not pay")), [SECRET])


def test_the_stack_of_a_log_is_heard() -> None:
    with Listener() as listener:
        logging.getLogger("an app").warning("where", stack_info=True)

    assert "test_the_stack_of_a_log_is_heard" in listener.said[0]
