"""What the workers wrote down of their stores, read back; and what leases and fences must not have let happen."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.bank import Call
from wallet_actions.checkpoint import Status
from wallet_actions.coins import ActionKey
from wallet_actions.fleet import Limit
from wallet_actions.testing.linear import Answer, Operation

SLACK_S = 0.1
"""By how much the clocks of two workers may differ: half of what it takes to ask the database for the time."""

_ANSWERS = {"conflict": Answer.CONFLICT, "unknown": Answer.UNKNOWN, "taken": Answer.REFUSED, "refused": Answer.REFUSED}


@dataclass(slots=True)
class Record:
    """One call of a store.

    Attributes:
        life: of the worker that made it.
        begun_s, ended_s: by the monotonic clock; inf where the worker died before it heard.
        asked, heard: see `recorder`.
    """

    life: str
    op: str
    begun_s: float
    asked: dict[str, Any]
    ended_s: float = math.inf
    outcome: str = "unknown"
    heard: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> ActionKey:
        """The action that it was about."""
        return ActionKey(*self.asked["key"])

    @property
    def answer(self) -> Answer:
        """What the worker was told."""
        return _ANSWERS.get(self.outcome, Answer.OK)


def read(folder: Path) -> list[Record]:
    """Read all files of a folder, in the order in which the calls began."""
    records: list[Record] = []
    for path in folder.iterdir():
        calls: dict[int, Record] = {}
        for line in path.read_text().splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                continue  # the life ended over it
            number, moment_s, life = told.pop("n"), told.pop("t"), told.pop("life")
            if "op" in told:
                calls[number] = Record(life, told.pop("op"), moment_s, told)
            else:
                record = calls[number]
                record.ended_s, record.outcome, record.heard = moment_s, told.pop("is_"), told
        records += calls.values()
    return sorted(records, key=lambda record: record.begun_s)


def operations(records: Iterable[Record]) -> Iterator[Operation]:
    """The same for `wallet_actions.testing.linear`."""
    for record in records:
        match record.op:
            case "create" if record.heard.get("new", True):
                yield _operation(record, "create", record.key, 0)
            case "save" | "finish":
                yield _operation(record, record.op, record.key, record.asked["from"] + 1)
                for child in record.asked["delta"].get("start", ()):
                    yield _operation(record, "start", ActionKey(*child), 0)
            case "load" if record.answer is Answer.OK:
                yield _operation(record, "load", record.key, record.heard["version"])
            case "claim":
                yield _operation(record, "claims", ActionKey("", ""), 0)
                for kind, name, version, _ in record.heard.get("rows", ()):
                    yield _operation(record, "claim", ActionKey(kind, name), version)


def _operation(record: Record, name: str, key: ActionKey, version: int) -> Operation:
    delta, answer = record.asked.get("delta", {}), record.answer
    if name == "start":
        # By its parent's write: what was not written with that is not there.
        name, delta = "create", {}
        answer = Answer.REFUSED if answer is Answer.CONFLICT else answer
    coins = {one: tuple(delta.get(one, ())) for one in ("reserve", "release", "spend")}
    return Operation(record.life, name, key, version, record.begun_s, record.ended_s, answer, **coins)


def unfenced(records: Iterable[Record]) -> list[str]:
    """Writes on top of a version that another worker had made, and held: a claim has to come in between.

    What was parked is held by nobody, and who has read it may write it.
    """
    holders: dict[tuple[ActionKey, int], str] = {}
    writes: list[Record] = []
    for record in records:
        if record.answer is not Answer.OK:
            continue
        match record.op:
            case "create" if record.heard["new"] and record.heard["owner"]:
                holders[record.key, 0] = record.life
            case "claim":
                for kind, name, version, _ in record.heard["rows"]:
                    holders[ActionKey(kind, name), version] = record.life
            case "save" | "finish":
                writes.append(record)
                if record.asked["status"] == Status.RUNNING:
                    holders[record.key, record.asked["from"] + 1] = record.life
    found = []
    for record in writes:
        holder = holders.get((record.key, record.asked["from"]), record.life)
        if holder != record.life:
            found.append(f"{record.key}: worker {record.life} wrote on version {record.asked['from']} of {holder}")
    return found


@dataclass(slots=True)
class Tenure:
    """An action of a kind in the hands of a worker, from a claim on.

    Attributes:
        untils: from when on the worker knew of a lease, and the lease's end.
        left_s: when it began to give it up; inf if never.
    """

    life: str
    key: ActionKey
    begun_s: float
    untils: list[tuple[float, float]]
    left_s: float = math.inf

    def spans(self) -> Iterator[tuple[float, float]]:
        """When the lease was live, as far as the worker knew: never longer than it was."""
        for known_s, until_s in self.untils:
            end_s = min(until_s - SLACK_S, self.left_s)
            if known_s < end_s:
                yield known_s, end_s


def tenures(records: Iterable[Record], *, epoch_s: float) -> list[Tenure]:
    """Who held which action that was claimed, and when.

    Args:
        epoch_s: the wall clock less the monotonic one.
    """
    made: list[Tenure] = []
    held: dict[tuple[str, ActionKey], Tenure] = {}

    def leave(life: str, key: ActionKey, at_s: float) -> None:
        tenure = held.pop((life, key), None)
        if tenure is not None:
            tenure.left_s = at_s

    # In the order in which the worker came to know; what ends a tenure counts from when it was asked for.
    for record in sorted(
        records, key=lambda one: one.begun_s if one.op in ("save", "finish", "let_go") else one.ended_s
    ):
        match record.op:
            case "claim":
                for kind, name, _, until_s in record.heard.get("rows", ()):
                    key = ActionKey(kind, name)
                    leave(record.life, key, record.begun_s)
                    tenure = Tenure(record.life, key, record.ended_s, [(record.ended_s, until_s - epoch_s)])
                    held[record.life, key] = tenure
                    made.append(tenure)
            case "renew":
                for key in (ActionKey(*one) for one in record.heard.get("keys", ())):
                    if (record.life, key) in held:
                        held[record.life, key].untils.append((record.ended_s, record.asked["until"] - epoch_s))
            case "save" | "finish":
                if record.asked["status"] != "running" or record.answer is Answer.CONFLICT:
                    leave(record.life, record.key, record.begun_s)
            case "let_go":
                keys = record.asked["keys"]
                mine = [key for life, key in held if life == record.life]
                for key in mine if keys is None else (ActionKey(*one) for one in keys):
                    leave(record.life, key, record.begun_s)
    return made


def _known_s(record: Record) -> float:
    return record.begun_s if record.op in ("save", "finish", "let_go") else record.ended_s


def most_at_once(held: Iterable[Tenure]) -> tuple[int, list[str]]:
    """How many actions were under a live lease at the same moment, and which."""
    most: list[str] = []
    for live in _moments(held):
        if len(live) > len(most):
            most = [f"{key} by {', '.join(sorted(lives))}" for key, lives in live.items()]
    return len(most), most


def held_by_two(held: Iterable[Tenure]) -> list[str]:
    """Actions that were under a live lease of two workers at the same moment."""
    found: dict[ActionKey, str] = {}
    for live in _moments(held):
        for key, lives in live.items():
            if len(lives) > 1:
                found.setdefault(key, f"{key} was held by {' and by '.join(sorted(lives))} at the same moment")
    return list(found.values())


def _moments(held: Iterable[Tenure]) -> Iterator[dict[ActionKey, set[str]]]:
    """Which actions were under a live lease of whom, after each change."""
    steps: list[tuple[float, bool, ActionKey, str]] = []
    for tenure in held:
        for begin_s, end_s in tenure.spans():
            steps += [(begin_s, True, tenure.key, tenure.life), (end_s, False, tenure.key, tenure.life)]
    counts: Counter[tuple[ActionKey, str]] = Counter()
    live: dict[ActionKey, set[str]] = {}
    for _, begins, key, life in sorted(steps):
        counts[key, life] += 1 if begins else -1
        if begins:
            live.setdefault(key, set()).add(life)
        elif not counts[key, life]:
            live[key].discard(life)
            if not live[key]:
                del live[key]
        yield live


def beyond_concurrency(held: Sequence[Tenure], limits: Mapping[str, Limit]) -> list[str]:
    """Kinds of which more were under a live lease at once than their limit lets."""
    found = []
    for kind, limit in limits.items():
        if limit.concurrency is not None:
            count, names = most_at_once(tenure for tenure in held if tenure.key.kind == kind)
            if count > limit.concurrency:
                found.append(f"{count} of kind {kind} were held at once, not {limit.concurrency}: {'; '.join(names)}")
    return found


def beyond_rate(records: Sequence[Record], limits: Mapping[str, Limit]) -> list[str]:
    """Kinds of which more were claimed in some span of time than their limit lets, by the fleet's clock."""
    found = []
    for kind, limit in limits.items():
        if limit.per_second is None:
            continue
        burst = max(1, math.floor(limit.per_second))
        times = sorted(
            record.asked["at"]
            for record in records
            if record.op == "claim"
            for row in record.heard.get("rows", ())
            if row[0] == kind
        )
        # A bucket that may run over by a burst: the same as looking at each span.
        level, last_s = 0.0, -math.inf
        for at_s in times:
            level = max(0.0, level - (at_s - last_s) * limit.per_second) + 1
            last_s = at_s
            if level > burst + 1 + SLACK_S * limit.per_second:
                found.append(f"more than {limit.per_second} of kind {kind} were claimed a second")
                break
    return found


def unclaimed(calls: Iterable[Call], held: Iterable[Tenure], kinds: Collection[str]) -> list[str]:
    """Calls at the bank for actions of these kinds whose worker had not claimed them."""
    begun: dict[tuple[str, ActionKey], float] = {}
    for tenure in held:
        place = tenure.life, tenure.key
        begun[place] = min(begun.get(place, math.inf), tenure.begun_s)
    found = []
    for call in calls:
        key = ActionKey(call.by["kind"], call.by["id"])
        if key.kind in kinds and begun.get((call.by["life"], key), math.inf) > call.began_s:
            found.append(f"{key} was driven by {call.by['life']}, which had not claimed it")
    return found
