"""The command `workers`: who is at work on a store that several processes share, and on what. It writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from wallet_actions.clock import SystemClock
from wallet_actions.fleet import SharedStore, Worker
from wallet_actions.ops.failures import CommandError
from wallet_actions.ops.options import DbOption, JsonOption
from wallet_actions.ops.records import Record, time_record
from wallet_actions.ops.target import opened
from wallet_actions.ops.terminal import emit, grid, run, say
from wallet_actions.ops.text import local, span


def workers(db: DbOption, as_json: JsonOption = False) -> None:
    """List the workers of a fleet: incarnations, names, and what each drives, until when.

    Told are those that renewed their leases within a day, or hold one; one that is gone shows by when it was last seen.

    JSON: {workers: [{incarnation, name, started_at, seen_at, drives: [{kind, id, lease_until}]}], at}. Times are UTC,
    ISO 8601, by the store's clock where it has one.
    """

    async def read() -> tuple[Sequence[Worker], datetime]:
        async with opened(db) as store:
            if not hasattr(store, "workers"):
                raise CommandError("this store is not one that several workers share")
            fleet = cast("SharedStore", store)
            now = await fleet.now() or SystemClock().now()
            return await fleet.workers(at=now), now

    found, now = run(read())
    if as_json:
        emit({"workers": [_record(worker) for worker in found], "at": time_record(now)})
        return
    _print(found, now)


def _record(worker: Worker) -> Record:
    return {
        "incarnation": worker.owner,
        "name": worker.name,
        "started_at": time_record(worker.started_at),
        "seen_at": time_record(worker.seen_at),
        "drives": [{"kind": key.kind, "id": key.id, "lease_until": time_record(until)} for key, until in worker.drives],
    }


def _print(found: Sequence[Worker], now: datetime) -> None:
    if not found:
        say("no workers")
        return
    grid(
        ("WORKER", "NAME", "STARTED", "SEEN", "DRIVES"),
        [
            (
                worker.owner,
                worker.name,
                local(worker.started_at, has_zone=False),
                f"{span(now - worker.seen_at)} ago",
                str(len(worker.drives)),
            )
            for worker in found
        ],
        kept=("WORKER", "SEEN", "DRIVES"),
    )
    drives = [(worker.owner, key, until) for worker in found for key, until in worker.drives]
    if drives:
        say()
        grid(
            ("KIND", "ID", "WORKER", "LEASE"),
            [
                (key.kind, key.id, owner, f"{'ends in' if until > now else 'lapsed'} {span(until - now)}")
                for owner, key, until in drives
            ],
            kept=("WORKER", "LEASE"),
        )
