"""The port to whatever keeps checkpoints, coins, facts and history.

Rules that hold for every store (the contract suite in `wallet_actions.testing` checks each):

* A write is one unit: checkpoint, version, coins, counters, facts, history, children and the app's own statements are
  committed together or not at all (G1, L-S1). A method that writes returns only after the commit is durable.
* A write checks the version and never inserts, so a late driver cannot bring a finished action back (L-S2). A lost
  check raises `VersionConflictError`; it is never a return value.
* Stores may put many waiting units into one transaction. A unit that fails does so alone: its neighbours commit (L-B1).
* A caller may be cancelled at any time. The unit may or may not have been committed then; a transaction is never left
  open, and the next caller is not affected.
* Drivers' exceptions do not cross the port. A store that is closed, busy beyond its patience, full or broken raises
  `StoreUnavailableError`, and answers every caller that waits.
* Records come back as they went in: times in UTC to the microsecond (a time without a zone is a `UsageError`), text
  unchanged, but for U+0000 and lone surrogates, which a store need not hold. Text is ordered by its UTF-8 bytes.

Order inside a unit: the version is checked before anything else, so that a late driver gets `VersionConflictError` even
where its coins or facts are no longer its own; then add, release, reserve, spend, counters, facts, statements, the
checkpoint, history, at the end of an action the release of what it still holds, and then the children, who may so
reserve what their parent frees. `create` first looks whether the action exists.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import entry_points
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from wallet_actions.checkpoint import CancelState, Checkpoint, HistoryEntry, Status, Wake
from wallet_actions.coins import ActionKey, Balance, Coin, CoinState, Fact
from wallet_actions.drafts import maker
from wallet_actions.errors import UsageError

ENTRY_POINT_GROUP = "wallet_actions.stores"


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL of the embedding app, in the dialect of the store in use. Its parameters are never logged."""

    sql: str
    parameters: tuple[Any, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Delta:
    """What a unit writes beside the checkpoint, as a store takes it.

    Attributes:
        add: new coins, spendable. One that is there already with the same account, unit and amount is left as it
            stands, whatever its state: a spent coin never comes back (L-C3). With another it is an `InvariantError`.
            `state` and `holder` of what is added are ignored, and so is the payload of what is there.
        release: coins that the action holds, to be spendable again. One that it does not hold any more (spendable, or
            spent) is passed over; one that another action holds, or that does not exist, is an `InvariantError` (L-C3).
        reserve: spendable coins that the action shall hold, all or nothing (L-C2). One that it already holds is passed
            over. One that is not spendable raises `ReservationError`; one that does not exist is an `InvariantError`.
        spend: coins that the action holds, to be spent for ever. One that it has spent already is passed over; any
            other is an `InvariantError` (L-C4).
        counters: name and value; raises a counter to at least that value, never lowers it (L-C12).
        facts: written, or written over if the same action wrote them; another action's is an `InvariantError`, unless
            the body is equal.
        statements: the app's own. A store without SQL raises `UsageError`; one that fails raises `StatementError`.
        start: further actions. One that exists already is left alone, and its own delta dropped.
    """

    add: tuple[Coin, ...] = ()
    release: tuple[str, ...] = ()
    reserve: tuple[str, ...] = ()
    spend: tuple[str, ...] = ()
    counters: tuple[tuple[str, int], ...] = ()
    facts: tuple[Fact, ...] = ()
    statements: tuple[Statement, ...] = ()
    start: tuple[NewAction, ...] = ()


EMPTY_DELTA = Delta()


@dataclass(frozen=True, slots=True)
class NewAction:
    """An action that is to be started: its checkpoint at version 0 and what is written with it."""

    checkpoint: Checkpoint
    delta: Delta = EMPTY_DELTA
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Write:
    """The next write of an action.

    Attributes:
        expected_version: the version last read, ≥ 0.
        checkpoint: the row as it shall stand; `version` is `expected_version + 1`, else `UsageError`. `cancel`,
            `created_at`, `traceparent`, `owner`, `lease_until` and `row` are not written from here: the store keeps
            what it has.
        event: for the history, see `HistoryEntry`.
        cancel: a new state of the cancel request; None leaves it as it is, so that a request that arrives
            while the driver works is not lost.
    """

    expected_version: int
    checkpoint: Checkpoint
    event: str
    notes: tuple[str, ...] = ()
    delta: Delta = EMPTY_DELTA
    cancel: CancelState | None = None


write_of = maker(Write)
"""Makes a `Write` of all its fields, in their order; for what runs in every transition."""


class Created(NamedTuple):
    """What `create` found or made."""

    checkpoint: Checkpoint
    is_new: bool


class Saved(NamedTuple):
    """What a save answers: the new version, and whether a request to cancel waits for an answer after this write."""

    version: int
    is_cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One finding of `diagnose`.

    Attributes:
        is_ok: whether nothing needs to be done.
        topic: what was looked at: `integrity`, `library`, `schema`, …
        finding: one sentence.
        advice: what to do, where something is wrong.
    """

    is_ok: bool
    topic: str
    finding: str
    advice: str = ""


@runtime_checkable
class Store(Protocol):
    """Keeps actions, coins, facts, counters and history. See the module's docstring for the rules."""

    async def __aenter__(self) -> Self:
        """Open, migrate and check the database.

        Raises:
            SchemaError: not ours, newer than this code, or a migration failed; nothing was changed.
            StoreInUseError: another process has it to itself.
            StoreUnavailableError: it cannot be opened.
        """
        ...

    async def __aexit__(self, *exc: object) -> None:
        """Finish what is queued, then close. Callers that come later get `StoreUnavailableError`."""
        ...

    # Actions

    async def create(self, new: NewAction, *, conn: object | None = None) -> Created:
        """Write an action's first checkpoint, with its delta, unless its kind and id exist already (G6).

        Args:
            conn: an open transaction (of `transaction()`, or of the app's own on the same database); the rows are then
                written there, and are durable once its owner commits.
        Returns:
            The checkpoint in the store (the old one where it existed, and then nothing was written).
        Raises:
            ReservationError, InvariantError, StatementError: see `Delta`; nothing was written.
        Durability: committed before it returns, unless `conn` is given. Idempotent: by kind and id.
        """
        ...

    async def save(self, write: Write) -> Saved:
        """Save the next checkpoint of an action; its status is not terminal.

        Raises:
            VersionConflictError: the row is gone, terminal, or at another version; stop, do not retry.
            ReservationError, InvariantError, StatementError: see `Delta`; nothing was written.
            UsageError: the status is terminal.
        Durability: committed before it returns. Idempotent: no. Cancellation: safe; may have committed.
        """
        ...

    async def finish(self, write: Write) -> Saved:
        """Save the last checkpoint of an action; every coin that it still holds goes back to spendable (L-C4).

        Raises:
            As `save`. UsageError: the status is not terminal.
        Durability: committed before it returns. Idempotent: no.
        """
        ...

    async def request_cancel(self, key: ActionKey, at: datetime) -> bool:
        """Note that somebody wants the action cancelled. The version stays as it is (L-S5, L-D11).

        A parked action becomes due at once (its `wake_at` becomes `at`, unless that is earlier), so that whoever drives
        it, in whatever process, comes to answer. Asking again wakes it again. `updated_at` stays: it tells of the
        driver.

        Returns:
            False where the action does not exist or has ended. A request that was accepted earlier stays accepted.
        Durability: committed before it returns. Idempotent: yes.
        """
        ...

    async def load(self, key: ActionKey) -> Checkpoint | None:
        """Read an action's row."""
        ...

    async def list_actions(
        self,
        *,
        statuses: Collection[Status] | None = None,
        kinds: Collection[str] | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> Sequence[Checkpoint]:
        """Read a page of actions in the order of `row`.

        Args:
            after: the `row` of the last one seen, 0 to begin.
        """
        ...

    async def count_actions(self) -> dict[tuple[str, Status], int]:
        """Count actions by kind and status."""
        ...

    async def wakes(self, *, until: datetime | None, after: Wake | None = None, limit: int = 100) -> Sequence[Wake]:
        """List parked actions that have a wake time, by wake time and row, of kinds that are not paused.

        Args:
            until: only those that are due by then; None for all.
        Cost: by index; grows with `limit`, not with how many are parked.
        """
        ...

    async def idle(self, *, after: int = 0, limit: int = 100) -> Sequence[Wake]:
        """List parked actions without a wake time, by row; `wake_at` is then the time at which they parked.

        Kinds that are paused are left out.
        """
        ...

    async def running(self, *, before: datetime, after: int = 0, limit: int = 100) -> Sequence[Wake]:
        """List running actions that nobody has written since `before`, by row: their driver may be dead.

        `wake_at` and `parked_at` are then the time of the last write. Kinds that are paused are left out.
        """
        ...

    async def last_write_at(self) -> datetime | None:
        """The latest time that any action was written at; later than now only if the clock was set back (L-B5)."""
        ...

    async def history(self, key: ActionKey, *, after: int = -1, limit: int = 1000) -> Sequence[HistoryEntry]:
        """Read an action's past, by version.

        Args:
            after: the version of the last entry seen, -1 to begin.
        """
        ...

    async def prune(self, before: datetime, *, limit: int = 500) -> int:
        """Forget the details of actions that ended before a time: state, history, the payload of coins that they spent.

        Kind, id, status, error and result stay for ever, and so do facts (G6, L-D5). Coins that are not spent are not
        touched. Bounded: call again until it returns less than `limit`; each action is pruned wholly or not (L-B6).

        Returns:
            How many were pruned.
        """
        ...

    # Kinds

    async def set_kind_paused(self, kind: str, is_paused: bool) -> None:
        """Pause or resume a whole kind; durable."""
        ...

    async def paused_kinds(self) -> frozenset[str]:
        """The kinds that are paused."""
        ...

    # Ledger

    async def coins(
        self,
        *,
        account: str | None = None,
        unit: str | None = None,
        state: CoinState | None = None,
        holder: ActionKey | None = None,
        after: str = "",
        limit: int = 1000,
    ) -> Sequence[Coin]:
        """Read a page of coins by id.

        Args:
            after: the id of the last one seen, "" to begin.
        """
        ...

    async def coins_by_id(self, ids: Collection[str]) -> Sequence[Coin]:
        """Read these coins, by id; unknown ids are left out."""
        ...

    async def balances(self, account: str | None = None) -> Sequence[Balance]:
        """Sum up what is not spent, by account and unit, sorted; exact however large."""
        ...

    async def orphans(self, *, limit: int = 1000) -> Sequence[Coin]:
        """Reserved coins whose holder has ended or does not exist (L-C10). None, unless the file was edited."""
        ...

    async def release_orphans(self, ids: Collection[str]) -> int:
        """Free orphaned coins, at a person's word (G5). Others are not touched.

        Returns:
            How many were freed.
        """
        ...

    async def facts(
        self, *, kind: str | None = None, key: str | None = None, after: int = 0, limit: int = 1000
    ) -> Sequence[tuple[int, Fact]]:
        """Read a page of facts in the order of their first writing, each with its cursor."""
        ...

    async def allocate(self, counter: str, count: int = 1) -> int:
        """Take the next `count` values of a durable counter (L-C12).

        Returns:
            The first of them; a new counter starts at 0.
        Raises:
            UsageError: `count` < 1, or so many values are not left: a counter ends at 2^63 - 1.
        Durability: committed before it returns; values that a crash swallows are never given out again. Idempotent: no.
        """
        ...

    async def counters(self) -> dict[str, int]:
        """All counters with their next value."""
        ...

    # The embedding app and the operator

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction of the embedding app on the store's own writing connection.

        What it yields has `await execute(sql, parameters)`, and is what `create` takes as `conn`. It commits when the
        block ends and rolls back when it raises. Writes of other tasks wait meanwhile: keep it short. A write in the
        block without that `conn` raises `UsageError`.

        Raises:
            UsageError: the store has no SQL, or a transaction is already open in this task.
        """
        ...

    async def diagnose(self) -> Sequence[Diagnosis]:
        """Check the database itself: integrity, library, schema. Writes nothing."""
        ...


def open_store(url: str) -> Store:
    """Find the store for a URL; open it with `async with`.

    The part before `://` names the store, by entry points of the group `wallet_actions.stores`: each is a callable that
    takes the whole URL. `sqlite:///relative.db`, `sqlite:////absolute.db` and `memory://` come with the library.

    Raises:
        UsageError: no store is installed for the URL; nothing was opened.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or not scheme:
        raise UsageError("a store's URL looks like sqlite:///wallet.db")
    for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=scheme):
        store: Store = entry_point.load()(url)
        return store
    known = ", ".join(sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})) or "none"
    raise UsageError(f"no store is installed for {scheme}:// (installed: {known})")
