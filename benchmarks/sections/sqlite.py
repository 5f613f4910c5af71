"""Transitions a second on SQLite, against the standard library's sqlite3 and against peers."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import table
from benchmarks.measuring import Rounds, Side
from benchmarks.peers.postgres import PostgresMissingError, postgres
from benchmarks.sections import Plan
from benchmarks.table import Row

BATCHES = {1: 150, 10: 60, 100: 20, 1000: 4}
QUICK_BATCHES = BATCHES | {1: 75}
PEER_BATCHES = {1: 8, 100: 1}
SHARE_OF_RAW = {(0.1, 1): 0.6, (1.0, 1): 0.85, (0.1, 100): 0.35, (1.0, 100): 0.45}
TIMES_DBOS = {(0.1, 1): 5.0, (1.0, 1): 2.5, (0.1, 100): 80.0, (1.0, 100): 60.0}
P99_FLUSHES, P99_MS = 4, 5.0
COMMITS = 11
BARE = "raw sqlite3, bare"
OURS, RAW, DBOS_WAL, DBOS = "ours", "raw sqlite3", "DBOS + WAL", "DBOS as installed"
PROCRASTINATE = "procrastinate"
WHOLE = ", whole"


def measure(plan: Plan) -> Iterator[Row]:
    """Measure all of it."""
    for flush_ms in plan.ground.flushes_ms:
        for at_once in BATCHES:
            yield from _against_raw(plan, flush_ms, at_once)
    if plan.peers is None or plan.is_quick:
        return
    for flush_ms in plan.ground.flushes_ms:
        for at_once in PEER_BATCHES:
            title = f"{_at(flush_ms, at_once)}, peers"
            sides = [*_whole(plan, flush_ms, at_once), _side(OURS, flush_ms, at_once, "history")]
            sides += [_dbos(plan, name, flush_ms, at_once) for name in (DBOS_WAL, DBOS)]
            found = plan.in_turns(title, sides)
            yield from _against_whole_dbos(found, title, flush_ms, at_once)
            yield from _against_dbos(found, title)
        yield from _procrastinate(plan, flush_ms)


def _at(flush_ms: float, at_once: int) -> str:
    flush = f"{flush_ms:g} ms flush" if flush_ms else "bare disk"
    return f"{flush}, {at_once:,} at once"


def _side(name: str, flush_ms: float, at_once: int, variant: str, *, is_quick: bool = False) -> Side:
    module = "benchmarks.sides.ours" if name.startswith(OURS) else "benchmarks.sides.raw"
    batches = (QUICK_BATCHES if is_quick else BATCHES)[at_once]
    arguments = {"at_once": at_once, "batches": batches, "variant": variant}
    return Side(name, module, arguments, flush_ms)


def _against_raw(plan: Plan, flush_ms: float, at_once: int) -> Iterator[Row]:
    goal = SHARE_OF_RAW.get((flush_ms, at_once))
    if plan.is_quick and goal is None:
        return
    title = _at(flush_ms, at_once)
    sides = [_side(name, flush_ms, at_once, "history", is_quick=plan.is_quick) for name in (OURS, RAW)]
    if plan.is_quick:
        sides += _whole(plan, flush_ms, at_once)  # in the same turns
    else:
        sides += [_side(f"{name}, no history", flush_ms, at_once, "no-history") for name in (OURS, RAW)]
        sides.append(_side(BARE, flush_ms, at_once, "bare"))
    found = plan.in_turns(title, sides)
    if OURS not in found or RAW not in found:
        return
    yield table.told(f"{title}: transitions a second", found.spread(OURS, "rate"))
    yield table.told(f"{title}: raw sqlite3, the limit", found.spread(RAW, "rate"))
    yield _share(f"{title}: share of raw", found, OURS, RAW, goal)
    if not plan.is_quick:
        yield _share(f"{title}: share of raw, no history", found, f"{OURS}, no history", f"{RAW}, no history", None)
        if BARE in found:
            yield table.told(f"{title}: {BARE} (see sides/raw.py)", found.spread(BARE, "rate"))
    if at_once == 1 and flush_ms == plan.ground.flushes_ms[0]:
        topic = "commits for an action of 10 transitions, start included"
        yield table.at_most(topic, found.spread(OURS, "commits"), COMMITS, "{:.0f}")
    if at_once == 100 and flush_ms:
        goal_ms = P99_FLUSHES * flush_ms + P99_MS
        yield table.at_most(f"{title}: p99 of a transition, ms", found.spread(OURS, "p99_ms"), goal_ms, "{:.1f}")
    if plan.is_quick:
        yield from _against_whole_dbos(found, f"{title}, peers", flush_ms, at_once)


def _share(topic: str, found: Rounds, ours: str, raw: str, goal: float | None) -> Row:
    share = found.ratio(ours, raw, "rate")
    return table.told(topic, share, "{:.2f}") if goal is None else table.at_least(topic, share, goal)


def _whole(plan: Plan, flush_ms: float, at_once: int) -> list[Side]:
    """What is timed from start to end, for both sides."""
    if plan.peers is None:
        return []
    ours = _side(OURS + WHOLE, flush_ms, at_once, "whole", is_quick=plan.is_quick)
    return [ours, _dbos(plan, DBOS_WAL + WHOLE, flush_ms, at_once)]


def _dbos(plan: Plan, name: str, flush_ms: float, at_once: int) -> Side:
    variant = ("wal" if name.startswith(DBOS_WAL) else "installed") + ("-whole" if name.endswith(WHOLE) else "")
    arguments = {"at_once": at_once, "batches": PEER_BATCHES[at_once], "variant": variant}
    return Side(name, "benchmarks.peers.dbos_side", arguments, flush_ms, plan.peers)


def _against_whole_dbos(found: Rounds, title: str, flush_ms: float, at_once: int) -> Iterator[Row]:
    """From an action's start to its end, as whoever waits for it sees it."""
    ours, dbos = OURS + WHOLE, DBOS_WAL + WHOLE
    if ours not in found or dbos not in found:
        return
    yield table.told(f"{title}: start to end, transitions a second", found.spread(ours, "rate"))
    yield table.told(f"{title}: {DBOS_WAL}, start to end, steps/s", found.spread(dbos, "rate"))
    times, topic = found.ratio(ours, dbos, "rate"), f"{title}: times {DBOS_WAL}"
    goal = TIMES_DBOS.get((flush_ms, at_once))
    yield table.told(topic, times, "{:.1f}") if goal is None else table.at_least(topic, times, goal, "{:.1f}")


def _against_dbos(found: Rounds, title: str) -> Iterator[Row]:
    """The steps alone, neither start nor end."""
    if OURS not in found:
        return
    for name in (DBOS_WAL, DBOS):
        if name not in found:
            continue
        (journal,) = {str(answer["journal"]).upper() for answer in found.answers[name]}
        yield table.told(f"{title}: {name} ({journal} journal), its steps alone, steps/s", found.spread(name, "rate"))
        times = found.ratio(OURS, name, "rate")
        yield table.told(f"{title}: times {name}, its steps alone", times, "{:.1f}")


def _procrastinate(plan: Plan, flush_ms: float) -> Iterator[Row]:
    if plan.is_quick or plan.peers is None:
        return
    folder = plan.ground.folder / f"postgres-{flush_ms:g}"
    folder.mkdir()
    try:
        with postgres(folder, plan.ground.environment(flush_ms)) as socket:
            for at_once, batches in PEER_BATCHES.items():
                title = f"{_at(flush_ms, at_once)}, PostgreSQL"
                arguments = {"at_once": at_once, "batches": batches}
                module = "benchmarks.peers.procrastinate_side"
                peer = Side(PROCRASTINATE, module, arguments, None, plan.peers, socket)
                found = plan.in_turns(title, [_side(OURS, flush_ms, at_once, "history"), peer])
                if OURS in found and PROCRASTINATE in found:
                    yield table.told(f"{title}: procrastinate, jobs/s", found.spread(PROCRASTINATE, "rate"))
                    times = found.ratio(OURS, PROCRASTINATE, "rate")
                    yield table.told(f"{title}: times procrastinate", times, "{:.1f}")
    except PostgresMissingError as error:
        print(f"without PostgreSQL: {error}", flush=True)
