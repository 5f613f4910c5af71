"""The checker of histories finds what is wrong, and nothing where all is well."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest

from tests.actions import SECOND, Open, Rig, coin, done, finished, key_of, parked, running, sent, settle, stepping
from wallet_actions.coins import ActionKey, Coin, CoinState
from wallet_actions.errors import VersionConflictError
from wallet_actions.store import Store
from wallet_actions.testing.linear import Answer, Operation, violations
from wallet_actions.testing.recorder import operations, recorded
from wallet_actions_storage.memory import MemoryStore

A, B = ActionKey("pay", "a"), ActionKey("pay", "b")


def op(
    name: str, version: int, begun_s: float, ended_s: float | None = None, *, key: ActionKey = A, **fields: Any
) -> Operation:
    """An operation that was answered; at once, unless told otherwise."""
    ended_s = begun_s + 0.5 if ended_s is None else ended_s
    answer = Answer.UNKNOWN if ended_s == math.inf else Answer.OK
    return Operation("w", name, key, version, begun_s, ended_s, **{"answer": answer, **fields})


GOOD = (
    op("create", 0, 0, reserve=("c",)),
    op("claim", 1, 1),
    op("save", 2, 2, 4),
    op("save", 2, 2.5, 5, answer=Answer.CONFLICT),
    op("load", 1, 2.1),
    op("load", 2, 3, 3.5),
    op("claim", 3, 5, math.inf),
    op("finish", 4, 6, spend=("c",)),
)
SPENT = Coin("c", "m", "sat", 1, "", CoinState.SPENT, A)


def test_a_good_history_has_no_violations() -> None:
    assert violations(GOOD, {A: 4}, [SPENT]) == []
    assert violations([], {}) == []


def test_what_was_not_answered_may_have_happened_or_not() -> None:
    """Both are stories: the version at the end tells which."""
    begun = (op("create", 0, 0), op("save", 1, 1, math.inf))
    assert violations(begun, {A: 0}) == []
    assert violations(begun, {A: 1}) == []


def test_a_write_may_conflict_with_a_claim_that_nobody_heard_of() -> None:
    """The worker died in it; without such a claim it is a conflict with nobody."""
    conflict = (op("create", 0, 0), op("save", 1, 2, answer=Answer.CONFLICT), op("finish", 2, 4))
    unheard = op("claims", 0, 1, math.inf, key=ActionKey("", ""))
    assert violations([*conflict, unheard], {A: 2}) == []
    assert f"{conflict[1]} conflicted with nobody" in violations(conflict[:2], {A: 0})


def test_what_a_claim_made_that_nobody_heard_of_may_be_read() -> None:
    """Once that claim had begun, and before the next write was answered."""
    read = (op("create", 0, 0), op("load", 1, 3), op("finish", 2, 4))
    for begun_s, is_right in ((1, True), (3.6, False)):
        unheard = op("claims", 0, begun_s, math.inf, key=ActionKey("", ""))
        found = violations([*read, unheard], {A: 2})
        assert found == ([] if is_right else [f"{read[1]} was read when it stood between 0 and 0"])
    late = (*read[:1], op("load", 1, 5), read[2], op("claims", 0, 1, math.inf, key=ActionKey("", "")))
    assert violations(late, {A: 2}) == [f"{late[1]} was read when it stood between 2 and 2"]


def test_which_of_two_starts_took_which_coins_may_never_be_known() -> None:
    """Both were cut off, and one of them was carried out: the coins of the other were free all the time."""
    cut_off = [
        op("create", 0, begun_s, math.inf, reserve=coins) for begun_s, coins in ((0, ("c", "d")), (1, ("e", "d")))
    ]
    failed = op("finish", 1, 9)
    for other in "cd":
        meanwhile = [op("create", 0, 2, reserve=(other,), key=B), op("finish", 1, 3, spend=(other,), key=B)]
        found = violations([*cut_off, failed, *meanwhile], {A: 1, B: 1}, [replace(SPENT, id=other, holder=B)])
        told = f"coin d was held by {A} and by {B} at the same moment"
        assert found == ([] if other == "c" else [told])


@pytest.mark.parametrize(
    ("planted", "finals", "told"),
    [
        ([*GOOD, op("save", 2, 3)], {A: 4}, "version 2 was made 2 times"),
        ([*GOOD[:2], *GOOD[5:]], {A: 4}, "nobody made version 2"),
        (GOOD[:3], {A: 1}, "version 2 was made, and at the end it stands at 1"),
        (GOOD[:3], {}, "version 2 was made, and at the end it stands at -1"),
        ([*GOOD, op("save", 5, 7)], {A: 5}, "came after the end"),
        ([op("create", 0, 5), op("save", 1, 1, 2)], {A: 1}, "was answered before"),
        (
            [op("create", 0, 0), op("save", 1, 9), op("save", 2, 9, 10), op("save", 3, 1, 2)],
            {A: 3},
            "was answered before",
        ),
        ([op("create", 0, 0), op("save", 1, 1, 2, answer=Answer.CONFLICT)], {A: 0}, "conflicted with nobody"),
        (
            [op("create", 0, 0), op("save", 1, 1, 2, answer=Answer.CONFLICT), op("save", 1, 3)],
            {A: 1},
            "conflicted with nobody",
        ),
        ([*GOOD, op("load", 1, 4.5)], {A: 4}, "between 2 and 3"),
        ([*GOOD, op("load", 4, 4.1, 4.2)], {A: 4}, "between 2 and 2"),
    ],
)
def test_versions_that_cannot_be(planted: list[Operation], finals: dict[ActionKey, int], told: str) -> None:
    """G2, L-S9: each planted in a history that is well otherwise."""
    found = violations(planted, finals)
    assert any(told in one for one in found), found


def holding(key: ActionKey, from_s: float, to_s: float | None, *, spends: bool = False) -> list[Operation]:
    """An action that holds a coin for a while."""
    story = [op("create", 0, from_s, key=key, reserve=("c",))]
    if to_s is not None:
        story.append(op("finish", 1, to_s, key=key, spend=("c",) if spends else ()))
    return story


def test_a_coin_may_go_from_hand_to_hand() -> None:
    after = [*holding(A, 0, 2), *holding(B, 3, 5, spends=True)]
    assert violations(after, {A: 1, B: 1}, [replace(SPENT, holder=B)]) == []
    # Released by a write that was under way when the other one reserved it.
    between = [*holding(A, 0, 2), op("create", 0, 1.9, 2.2, key=B, reserve=("c",))]
    assert violations(between, {A: 1, B: 0}, [replace(SPENT, state=CoinState.RESERVED, holder=B)]) == []


@pytest.mark.parametrize(
    ("planted", "finals", "coin", "told"),
    [
        ([*holding(A, 0, 9), *holding(B, 3, 5)], {A: 1, B: 1}, None, "at the same moment"),
        ([*holding(A, 0, None), *holding(B, 3, None)], {A: 0, B: 0}, None, "at the same moment"),
        ([*holding(A, 0, 1, spends=True), *holding(B, 3, 5)], {A: 1, B: 1}, None, "at the same moment"),
        ([*holding(A, 0, 1, spends=True), *holding(B, 3, 5, spends=True)], {A: 1, B: 1}, None, "spent by"),
        (holding(A, 0, 1), {A: 1}, SPENT, "left it spendable"),
        (holding(A, 0, None), {A: 0}, replace(SPENT, state=CoinState.SPENDABLE, holder=None), "left it reserved"),
        (holding(A, 0, 1, spends=True), {A: 1}, replace(SPENT, holder=B), "left it spent"),
        (holding(A, 0, 1, spends=True), {A: 1}, replace(SPENT, state=CoinState.RESERVED), "left it spent"),
    ],
)
def test_coins_that_cannot_be(
    planted: list[Operation], finals: dict[ActionKey, int], coin: Coin | None, told: str
) -> None:
    """L-C1 to L-C4: two holders, two spends, or a ledger that says otherwise."""
    found = violations(planted, finals, [] if coin is None else [coin])
    assert any(told in one for one in found), found


def test_notes_are_read_back() -> None:
    """The answer in place of the beginning; what was cut off is left out, what is no note is told."""
    begun = replace(GOOD[0], ended_s=math.inf, answer=Answer.UNKNOWN)
    lines = [begun.to_json(), GOOD[0].to_json(), GOOD[6].to_json(), GOOD[1].to_json()[:20]]
    assert operations(lines) == [GOOD[0], GOOD[6]]
    for bad in ("{}", "[1]", '{"key": 1}'):
        with pytest.raises(ValueError, match=r"not an operation"):
            Operation.from_json(bad)


# Recorded


async def judged(lines: list[str], store: Store) -> list[str]:
    finals = {row.key: row.version for row in await store.list_actions(limit=1000)}
    return violations(operations(lines), finals, await store.coins())


def recording(memory: MemoryStore, worker: str, lines: list[str]) -> Rig:
    return Rig(store=recorded(memory.peer(), worker, lines.append), clock=None)


@pytest.mark.anyio
async def test_two_workers_make_one_story() -> None:
    """G2: through claims, coins, conflicts, takeovers, children; and a write behind their backs is found."""
    memory, lines = MemoryStore(shared=True), list[str]()
    one, two = recording(memory, "one", lines), recording(memory, "two", lines)
    two.clock = one.clock
    two.executor.clock._clock = one.clock  # type: ignore[attr-defined]
    for rig in (one, two):
        rig.desk.then(
            stepping(add=[coin("x")], reserve=["x"]),
            parked(SECOND),
            finished(spend=["x"]),
        )
    async with memory, one, two, running(one), running(two):
        key = await one.start("a")
        await one.clock.advance(3 * SECOND)
        for rig in (one, two):
            rig.desk.then(lambda job: sent(job) if job.phase == Open() else parked(40 * SECOND)(job))
        for n in range(20):
            await (one, two)[n % 2].start(f"{n}")
        await one.clock.advance(SECOND)
        await one.operator.retry(key_of("7"))
        for rig in (one, two):
            rig.desk.then(done)
        await one.clock.advance(60 * SECOND)
        assert await judged(lines, memory) == []
        assert {operation.name for operation in operations(lines)} >= {"create", "claim", "save", "finish"}
        row = await one.row(key)
        with pytest.raises(VersionConflictError):
            await memory.save(_late(row))
        memory._tables.records[key].version += 1
        assert await judged(lines, memory) == [f"{key}: nobody made version {row.version + 1}"]


def _late(row: Any) -> Any:
    from wallet_actions.store import Write

    running_row = replace(row, status=type(row.status).RUNNING, version=row.version + 1)
    return Write(row.version, running_row, "late")


@pytest.mark.anyio
async def test_a_write_that_was_not_answered_is_noted() -> None:
    memory, lines = MemoryStore(), list[str]()
    rig = recording(memory, "one", lines)
    async with memory, rig:
        start = asyncio.ensure_future(rig.start("a"))
        await asyncio.sleep(0)
        start.cancel()
        await settle()
        (noted,) = operations(lines)
        assert (noted.name, noted.answer, noted.ended_s) == ("create", Answer.UNKNOWN, math.inf)
        assert await judged(lines, memory) == []
