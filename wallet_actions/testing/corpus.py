"""Checkpoints of today's code, loaded and driven to their end by tomorrow's (T8, L-U1).

    await record("tests/corpus/checkpoints", make, BankWorld)   # once for each schema version; commit the files

    report = await replay("tests/corpus/checkpoints", BankWorld)   # in a test, for ever
    assert report.is_ok, str(report)

One file holds the first checkpoint of a kind, schema version and phase, the coins and counters that stood beside it,
what the peers knew (`RemembersPeers`), and where it has to end. A file is never written over: those of older schema
versions are what users have on their disks. They hold everything that the action holds, so record with secrets of a
test alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import JsonValue, ValidationError

from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.codec import canonical_json
from wallet_actions.coins import ActionKey, CoinState
from wallet_actions.errors import CheckpointDecodeError, UsageError, WalletActionError
from wallet_actions.registry import Kind, Registry
from wallet_actions.store import NewAction, Store
from wallet_actions.testing import oracles
from wallet_actions.testing.boundaries import Boundary
from wallet_actions.testing.entry import Entry, KeptCoin, hash_of, leaves
from wallet_actions.testing.life import Life
from wallet_actions.testing.trial import Makes, live, starts_in
from wallet_actions.testing.world import World


@runtime_checkable
class RemembersPeers(Protocol):
    """A world whose peers can be put back into a state of theirs.

    Without it they are as in a fresh world, which is right only where they know nothing of the action.
    """

    def peers(self) -> JsonValue:
        """What the peers know by now."""
        ...

    def set_peers(self, known: JsonValue) -> None:
        """Have them know that, and nothing else."""
        ...


@dataclass(slots=True)
class ReplayReport:
    """What a replay found.

    Attributes:
        files: how many were tried.
        problems: by file, what is wrong with it.
    """

    files: int = 0
    problems: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        """Whether there were files, and nothing is wrong."""
        return self.files > 0 and not self.problems

    def __str__(self) -> str:
        if not self.files:
            return "no checkpoints were found: record some first"
        lines = [f"{self.files} checkpoints, {len(self.problems)} of them go wrong"]
        for name, problems in self.problems.items():
            lines += [name, *(f"  {problem}" for problem in problems)]
        return "\n".join(lines)


async def record(folder: str | Path, make: Makes, world: Callable[[], World[Any]]) -> list[Path]:
    """Run an action in peace, and keep its checkpoints.

    Args:
        make, world: as for `sweep`.
    Returns:
        The files that were written: none for what the folder has already.
    Raises:
        UsageError: the run did not end well, or a coin was held by another action.
    """
    here = world()
    seen: dict[str, Entry] = {}
    try:
        async with here.store() as store:
            await here.prepare(store)
        starts = await starts_in(make, here)

        async def look(boundary: Boundary) -> None:
            if boundary.site == "store" and boundary.moment == "after" and boundary.phase and boundary.key:
                entry = await _entry(here, boundary.key)
                seen.setdefault(entry.name, entry)

        found = await live(here, Life(switch=look), starts)
        found += await here.check()
        if found:
            raise UsageError(f"only a run that ends well can be recorded: {found[0]}")
        async with here.store() as store:
            finished = [await _with_end(entry, store) for entry in seen.values()]
    finally:
        await here.close()
    return [path for entry in finished if (path := entry.write(Path(folder))) is not None]


async def replay(folder: str | Path, world: Callable[[], World[Any]]) -> ReplayReport:
    """Load every checkpoint of a folder with the code of today, and drive it to its end.

    `World.prepare` is not called: what it puts into the store is in the files, and what it tells the peers too.

    Returns:
        What no longer loads, reads otherwise under the same schema version, has lost a field, or ends otherwise.
    """
    report = ReplayReport()
    for path in _files(Path(folder)):
        report.files += 1
        try:
            entry = Entry.model_validate_json(path.read_bytes())
        except ValidationError:
            report.problems[path.name] = ["is not a file of the corpus, or was cut"]
            continue
        problems = await _replay(entry, world)
        if problems:
            report.problems[path.name] = problems
    return report


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


async def _replay(entry: Entry, world: Callable[[], World[Any]]) -> list[str]:
    here = world()
    try:
        checkpoint = entry.checkpoint()
        try:
            kind = Registry(here.kinds).named(checkpoint.key)
            problems = _reads_as_before(entry, checkpoint, kind)
        except CheckpointDecodeError as error:
            return [f"no longer loads: {error}"]
        if entry.status.is_terminal:
            return problems + _result_as_before(entry, kind)
        here.clock.set_wall(entry.at)
        if isinstance(here, RemembersPeers):
            here.set_peers(entry.peers)
        try:
            async with here.store() as store:
                await store.create(NewAction(checkpoint, entry.delta()))
        except WalletActionError as error:
            return [*problems, f"cannot be put into the store: {error}"]
        problems += await live(here, Life(), [])
        problems += [f"ends otherwise: {problem}" for problem in await here.check()]
        async with here.store() as store:
            ends = await _ends(store, checkpoint.key, {(kind, key) for kind, key, _ in entry.facts})
        problems += [f"ends otherwise: {found}" for found in _differences(entry.ends, ends)]
        secrets = list(here.secrets())
        return [oracles.masked(problem, secrets) for problem in problems]
    finally:
        await here.close()


def _reads_as_before(entry: Entry, checkpoint: Checkpoint, kind: Kind) -> list[str]:
    action = kind.decode(checkpoint)
    problems = []
    if entry.schema_version == kind.schema_version and hash_of(action) != entry.decoded:
        problems.append("reads otherwise than it did, although the schema version is the same")
    now: JsonValue = json.loads(kind.encode(action))
    kept, values = dict(leaves(now)), {canonical_json(value) for _, value in leaves(now)}
    for path, value in leaves(entry.state):
        # A later schema may have moved it: then its value is somewhere else.
        is_moved = entry.schema_version < kind.schema_version and canonical_json(value) in values
        if kept.get(path, _MISSING) != value and not is_moved and path not in entry.may_lose:
            problems.append(f"loses {path}")
    return problems


def _result_as_before(entry: Entry, kind: Kind) -> list[str]:
    if entry.status is not Status.DONE:
        return []
    text = canonical_json(entry.result)
    try:
        again: JsonValue = json.loads(kind.result.encode(kind.result.decode(text)))
    except (ValueError, WalletActionError):
        return ["its result can no longer be read"]
    kept = dict(leaves(again))
    return [f"its result loses {path}" for path, value in leaves(entry.result) if kept.get(path, _MISSING) != value]


_MISSING = object()


async def _entry(here: World[Any], key: ActionKey) -> Entry:
    async with here.store() as store:
        checkpoint = await store.load(key)
        assert checkpoint is not None  # noqa: S101 it was written just now
        action = Registry(here.kinds).decode(checkpoint)
        coins = [coin for coin in await oracles.all_coins(store) if coin.state is not CoinState.SPENT]
        strangers = {coin.holder for coin in coins} - {None, key}
        if strangers and not checkpoint.status.is_terminal:
            raise UsageError(f"a coin is held by {strangers.pop()}: record one action at a time")
        return Entry(
            kind=key.kind,
            id=key.id,
            schema_version=checkpoint.schema_version,
            phase=checkpoint.phase,
            status=checkpoint.status,
            cancel=checkpoint.cancel,
            at=here.clock.now(),
            state=json.loads(checkpoint.state or "null"),
            decoded=hash_of(action),
            result=json.loads(checkpoint.result or "null"),
            coins=tuple(KeptCoin.of(coin) for coin in coins),
            counters=await store.counters(),
            facts=tuple((fact.kind, fact.key, fact.body) for _, fact in await store.facts()),
            peers=here.peers() if isinstance(here, RemembersPeers) else None,
        )


async def _with_end(entry: Entry, store: Store) -> Entry:
    if entry.status.is_terminal:
        # Nothing is driven any more: its state and its result are what has to be read.
        kept = entry.model_dump(exclude={"coins", "counters", "facts", "peers"})
        return Entry.model_validate(kept)
    ends = await _ends(store, ActionKey(entry.kind, entry.id), {(kind, key) for kind, key, _ in entry.facts})
    return Entry.model_validate({**entry.model_dump(), "ends": ends})


async def _ends(store: Store, key: ActionKey, before: set[tuple[str, str]]) -> dict[str, JsonValue]:
    checkpoint = await store.load(key)
    assert checkpoint is not None  # noqa: S101 an action is never removed
    ends: dict[str, JsonValue] = {
        "status": checkpoint.status.value,
        "result": json.loads(checkpoint.result or "null"),
    }
    for one in await store.balances():
        if one.spendable or one.reserved:
            ends[f"balance {one.account} {one.unit}"] = [one.spendable, one.reserved]
    for _, fact in await store.facts():
        if (fact.kind, fact.key) not in before:
            ends[f"fact {fact.kind} {fact.key}"] = "there"
    return ends


def _differences(then: Mapping[str, JsonValue], now: Mapping[str, JsonValue]) -> list[str]:
    """Named, and shown only where they are no results: those may be sensitive."""
    return [
        f"{name} is another" if name == "result" else f"{name}: {now.get(name)!r}, when recorded {then.get(name)!r}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
