"""PostgreSQL: transitions against bare asyncpg and peers, claims among very many, and what two workers make of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import table
from benchmarks.measuring import Side
from benchmarks.peers.postgres import PostgresMissingError, postgres
from benchmarks.sections import Plan
from benchmarks.sides.fleet import LEASE
from benchmarks.sides.postgres_claim import DUE
from benchmarks.table import Row

FLUSH_MS = 1.0
BATCHES = {1: 60, 100: 20}
SHARE_OF_RAW = 0.4
TIMES = {"DBOS": 40.0, "procrastinate": 30.0}
MANY = 1_000_000
CLAIMS = 40
QUICK_ROUNDS = 3
CLAIM_MS, WAKE_MS, BEHIND_S = 5.0, 50.0, 1.0
OURS, RAW, DBOS, PROCRASTINATE = "ours", "raw asyncpg", "DBOS", "procrastinate"


def measure(plan: Plan) -> Iterator[Row]:
    """Measure all of it, on a server whose flushes have a cost of 1 ms."""
    folder = plan.ground.folder / "postgres"
    folder.mkdir()
    flush_ms = FLUSH_MS if plan.ground.shim is not None else 0.0
    try:
        with postgres(folder, plan.ground.environment(flush_ms)) as socket:
            title = f"PostgreSQL, {flush_ms:g} ms flush" if flush_ms else "PostgreSQL, bare disk"
            for at_once in (100,) if plan.is_quick else BATCHES:
                yield from _transitions(plan, socket, f"{title}, {at_once} at once", at_once)
            yield from _fleet(plan, socket)
            yield from _claims(plan, socket)
    except PostgresMissingError as error:
        print(f"without PostgreSQL: {error}", flush=True)


def _transitions(plan: Plan, socket: Path, title: str, at_once: int) -> Iterator[Row]:
    arguments = {"at_once": at_once, "batches": BATCHES[at_once]}
    few = {"at_once": at_once, "batches": 1}
    sides = [
        Side(OURS, "benchmarks.sides.postgres", arguments, folder=socket),
        Side(RAW, "benchmarks.sides.raw_postgres", arguments, folder=socket),
    ]
    if plan.peers is not None:
        of_dbos = {**few, "variant": "postgres"}
        sides += [
            Side(DBOS, "benchmarks.peers.dbos_side", of_dbos, None, plan.peers, socket),
            Side(PROCRASTINATE, "benchmarks.peers.procrastinate_side", few, None, plan.peers, socket),
        ]
    found = plan.in_turns(title, sides)
    if OURS not in found:
        return
    is_judged = at_once > 1
    yield table.told(f"{title}: transitions a second", found.spread(OURS, "rate"))
    if RAW in found:
        yield table.told(f"{title}: raw asyncpg, the limit", found.spread(RAW, "rate"))
        share, topic = found.ratio(OURS, RAW, "rate"), f"{title}: share of raw"
        yield table.at_least(topic, share, SHARE_OF_RAW) if is_judged else table.told(topic, share, "{:.2f}")
    for name, goal in TIMES.items():
        if name in found:
            yield table.told(f"{title}: {name}, steps/s", found.spread(name, "rate"))
            times, topic = found.ratio(OURS, name, "rate"), f"{title}: times {name}"
            yield table.at_least(topic, times, goal, "{:.1f}") if is_judged else table.told(topic, times, "{:.1f}")


def _fleet(plan: Plan, socket: Path) -> Iterator[Row]:
    def side(variant: str) -> Side:
        return Side(variant, "benchmarks.sides.fleet", {"variant": variant}, folder=socket)

    found = plan.in_turns("PostgreSQL, two workers", [side("takeover"), side("wake")], _rounds(plan))
    if "takeover" in found:
        topic = f"a killed worker's action is driven, s behind its lease of {LEASE.total_seconds():g} s"
        yield table.at_most(topic, found.spread("takeover", "behind_s"), BEHIND_S)
    if "wake" in found:
        topic = "what another process starts is driven, ms after"
        yield table.at_most(topic, found.spread("wake", "wake_ms"), WAKE_MS, "{:.1f}")


def _claims(plan: Plan, socket: Path) -> Iterator[Row]:
    arguments = {"others": MANY, "batches": CLAIMS}
    side = Side("claim", "benchmarks.sides.postgres_claim", arguments, folder=socket)
    found = plan.in_turns("PostgreSQL, claims", [side], _rounds(plan))
    if "claim" in found:
        topic = f"PostgreSQL: a claim of {DUE} due among {MANY:,}"
        yield table.at_most(f"{topic}, ms", found.spread("claim", "claim_ms"), CLAIM_MS, "{:.1f}")
        yield table.told(f"{topic}: ms of the client's processor", found.spread("claim", "cpu_ms"), "{:.1f}")


def _rounds(plan: Plan) -> int:
    # Each is of many measurements by itself.
    return min(plan.rounds, QUICK_ROUNDS) if plan.is_quick else plan.rounds
