"""What `doctor` finds: everything in a database that a person should know of or act on. Writes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from wallet_actions.checkpoint import CancelState, Checkpoint, Status, Wake
from wallet_actions.coins import Balance
from wallet_actions.ops.records import Record, coin_record, error_record, time_record
from wallet_actions.ops.target import totals
from wallet_actions.ops.text import counted, span
from wallet_actions.step import record
from wallet_actions.store import Store

PAGE = 500
EXAMPLES = 20
"""How many actions a finding names; it counts them all."""

LATE = timedelta(minutes=5)
"""How long after its time something is late: longer than any look-around of the engine's defaults."""

UNFINISHED = tuple(status for status in Status if not status.is_terminal)
INTEGRITY = "integrity"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        is_ok: whether nobody needs to do anything.
        topic: what was looked at, one word.
        finding: one sentence.
        advice: what to do, where something is wrong.
        items: what it is about, at most `EXAMPLES` of them, as JSON records: actions with kind, id and more, or coins.
    """

    is_ok: bool
    topic: str
    finding: str
    advice: str = ""
    items: tuple[Record, ...] = ()


@dataclass(slots=True)
class Report:
    """All that was found.

    Attributes:
        counts: actions by kind and status.
        balances: what is not spent, by account and unit.
    """

    findings: list[Finding] = field(default_factory=list)
    counts: dict[tuple[str, Status], int] = field(default_factory=dict)
    balances: Sequence[Balance] = ()
    paused_kinds: frozenset[str] = frozenset()

    @property
    def is_ok(self) -> bool:
        """Whether nobody needs to do anything."""
        return all(finding.is_ok for finding in self.findings)

    @property
    def is_damaged(self) -> bool:
        """Whether the database itself is not sound."""
        return any(finding.topic == INTEGRITY and not finding.is_ok for finding in self.findings)


async def examine(store: Store, now: datetime) -> Report:
    """Look at everything once. What a damaged database does not let us read becomes a finding of its own."""
    report = Report()

    async def diagnose() -> None:
        for found in await store.diagnose():
            report.findings.append(Finding(found.is_ok, found.topic, found.finding, found.advice))

    async def count() -> None:
        report.counts = await store.count_actions()
        report.balances = await store.balances()

    async def find(look: Callable[[], Awaitable[list[Finding]]]) -> None:
        report.findings.extend(await look())

    async def kinds() -> None:
        report.paused_kinds = await store.paused_kinds()
        await find(lambda: _paused_kinds(report))

    await _attempt(report, INTEGRITY, diagnose)
    await _attempt(report, "counts", count)
    await _attempt(report, "kinds", kinds)
    await _attempt(report, "actions", lambda: find(lambda: _unfinished(store, now)))
    await _attempt(report, "wakes", lambda: find(lambda: _late(store, now)))
    await _attempt(report, "orphans", lambda: find(lambda: _orphans(store)))
    await _attempt(report, "clock", lambda: find(lambda: _clock(store, now)))
    return report


async def _attempt(report: Report, topic: str, look: Callable[[], Awaitable[None]]) -> None:
    try:
        await look()
    except Exception as error:  # noqa: BLE001 a damaged row can make anything raise, and the rest is to be told too
        report.findings.append(
            Finding(
                is_ok=False,
                topic=INTEGRITY,
                finding=f"the {topic} could not be read: {record(error).message}",
                advice="Stop the app, keep a copy of the file, and restore a backup.",
            )
        )


async def _paused_kinds(report: Report) -> list[Finding]:
    findings: list[Finding] = []
    for kind in sorted(report.paused_kinds):
        waiting = sum(count for (of, status), count in report.counts.items() if of == kind and not status.is_terminal)
        findings.append(
            Finding(
                is_ok=not waiting,
                topic="paused",
                finding=f"the kind {kind} is paused; {counted(waiting, 'action')} of it not finished",
                advice=f"When its cause is gone: wallet-actions resume --kind {kind}" if waiting else "",
            )
        )
    return findings


class _Group:
    """Actions of which the same is to be said."""

    def __init__(self, topic: str, what: str, advice: str, *, is_ok: bool = False) -> None:
        self.topic = topic
        self.what = what
        self.advice = advice
        self.is_ok = is_ok
        self.count = 0
        self.items: list[Record] = []

    def add(self, checkpoint: Checkpoint, now: datetime, *, since: datetime | None = None) -> None:
        self.count += 1
        if len(self.items) < EXAMPLES:
            since = since or checkpoint.updated_at
            self.items.append(
                {
                    "kind": checkpoint.kind,
                    "id": checkpoint.id,
                    "since": time_record(since),
                    "for_s": max(0, int((now - since).total_seconds())),
                    "error": error_record(checkpoint.error),
                    "owner": checkpoint.owner,
                }
            )

    def findings(self) -> list[Finding]:
        if not self.count:
            return []
        return [
            Finding(
                self.is_ok, self.topic, f"{counted(self.count, 'action')} {self.what}", self.advice, tuple(self.items)
            )
        ]


async def _unfinished(store: Store, now: datetime) -> list[Finding]:
    """One pass over everything that has not ended."""
    by_status = {
        Status.STUCK: _Group(
            "stuck",
            "stuck: a step fails in a way that nobody foresaw; its coins are held",
            "See `show`; mend the cause, then `retry`. Each start of the app tries them once more.",
        ),
        Status.QUARANTINED: _Group(
            "quarantined",
            "quarantined: the code that ran last cannot read them; they are kept as they are",
            "Run the version of the app that wrote them, or register their kind; it takes them up by itself.",
        ),
        Status.PAUSED: _Group("paused", "paused by a person", "When the cause is gone: `resume`."),
    }
    configuration = _Group(
        "configuration",
        "parked because of credentials, permissions or settings",
        "Mend what the error names, then `retry` them.",
    )
    leases = _Group(
        "leases",
        "owned by a driver whose lease has run out",
        "Its process is dead or hangs; any running driver takes them over. Start one if there is none.",
    )
    cancels = _Group("cancel", "asked to cancel, and not answered yet", "", is_ok=True)
    schemas: dict[str, set[int]] = {}
    after = 0
    while page := await store.list_actions(statuses=UNFINISHED, after=after, limit=PAGE):
        after = page[-1].row
        for checkpoint in page:
            schemas.setdefault(checkpoint.kind, set()).add(checkpoint.schema_version)
            if checkpoint.status in by_status:
                by_status[checkpoint.status].add(checkpoint, now)
            elif checkpoint.error is not None and checkpoint.error.type == "ConfigurationError":
                configuration.add(checkpoint, now)
            if checkpoint.owner is not None and checkpoint.lease_until is not None and checkpoint.lease_until < now:
                leases.add(checkpoint, now, since=checkpoint.lease_until)
            if checkpoint.cancel is CancelState.REQUESTED:
                cancels.add(checkpoint, now)
    versions = "; ".join(f"{kind} {', '.join(map(str, sorted(found)))}" for kind, found in sorted(schemas.items()))
    groups = [*by_status.values(), configuration, leases, cancels]
    findings = [finding for group in groups for finding in group.findings()]
    if all(finding.is_ok for finding in findings):
        findings.insert(0, Finding(True, "actions", "none is stuck, quarantined, paused or wrongly configured"))
    if versions:
        findings.append(Finding(True, "versions", f"schema versions of what is not finished: {versions}"))
    return findings


async def _late(store: Store, now: datetime) -> list[Finding]:
    overdue = await store.wakes(until=now - LATE, limit=EXAMPLES + 1)
    silent = await store.running(before=now - LATE, limit=EXAMPLES + 1)
    advice = "Nobody seems to drive: start the app, or run `recover --app` once."
    if not overdue and not silent:
        return [Finding(True, "wakes", "nothing is overdue")]
    return [
        *_wakes("wakes", f"parked, and due for more than {span(LATE)}", advice, overdue, now),
        *_wakes("running", f"running, and not written for more than {span(LATE)}", advice, silent, now),
    ]


def _wakes(topic: str, what: str, advice: str, wakes: Sequence[Wake], now: datetime) -> list[Finding]:
    if not wakes:
        return []
    more = "more than " if len(wakes) > EXAMPLES else ""
    items = tuple(
        {
            "kind": wake.key.kind,
            "id": wake.key.id,
            "since": time_record(wake.wake_at),
            "for_s": int((now - wake.wake_at).total_seconds()),
        }
        for wake in wakes[:EXAMPLES]
    )
    return [Finding(False, topic, f"{more}{counted(len(items), 'action')} {what}", advice, items)]


async def _orphans(store: Store) -> list[Finding]:
    coins = await store.orphans()
    if not coins:
        return [Finding(True, "orphans", "every reserved coin belongs to an action that goes on")]
    amounts = ", ".join(f"{total} {unit} of {account}" for account, unit, total in totals(coins))
    return [
        Finding(
            False,
            "orphans",
            f"{counted(len(coins), 'coin')} reserved by actions that have ended or do not exist: {amounts}",
            "Ask the peer whether they are spent. If they are not: wallet-actions doctor --release-orphans",
            tuple(coin_record(coin) for coin in coins[:EXAMPLES]),
        )
    ]


async def _clock(store: Store, now: datetime) -> list[Finding]:
    last = await store.last_write_at()
    if last is None:
        return [Finding(True, "clock", "nothing has been written yet")]
    if last > now:
        return [
            Finding(
                False,
                "clock",
                f"the last write is {span(last - now)} in the future: this machine's clock was set back, or is wrong",
                "Set the clock right. The app shortens wake times accordingly when it starts.",
            )
        ]
    return [Finding(True, "clock", f"the last write was {span(now - last)} ago")]
