"""The port to a store that several workers share: leases, fences, and who is at work.

A worker takes a due action by `claim`, which notes the worker's incarnation and a lease, and raises the version: the
version is the fencing token, so whatever a former driver writes later conflicts (L-S2). The lease says only how long
others keep their hands off; it is never what makes a write safe.

Rules beside those of `wallet_actions.store`:

* Every time here is the fleet's: that of the store where it has a clock of its own (`now`), else the machine's.
* A write of `save` leaves owner and lease as they are where the action is `running` after it, and clears both in the
  same write where it is anything else (parked, paused, stuck, quarantined, ended), so that whoever is there when it is
  due may take it.
* `create` writes the `owner` and `lease_until` of the checkpoint that it is given: whoever starts an action may so
  drive it at once, without a claim. It writes the checkpoint's `tenant`, which never changes.
* A lease has lapsed when its end is not later than now, and also when it ends later than `LONGEST_LEASE` from now: no
  clock that is right has given that, and nobody shall wait for one that was wrong.
* Nothing in this port ever frees a coin (G5).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import floor
from typing import Protocol, cast, runtime_checkable

from wallet_actions.checkpoint import Checkpoint
from wallet_actions.coins import ActionKey
from wallet_actions.errors import UsageError
from wallet_actions.store import Store

LONGEST_LEASE = timedelta(minutes=10)
SKEW = timedelta(seconds=1)
"""By how much the times of workers may differ before a clock was wrong."""
LATE = timedelta(minutes=1)
"""How much later than its own time a claim may be carried out: where the database was busy or away."""
REMEMBERED = timedelta(days=1)
"""How long a worker that is gone is still told of by `workers`."""

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Limit:
    """What a kind may do across the whole fleet.

    Attributes:
        concurrency: how many may be driven at once, ≥ 1; None for no limit. Exact without any clock: what somebody owns
            is counted, its lease lapsed or not, and takes no room when it is taken over.
        per_second: how many claims a second, > 0, in bursts of at most one second's worth (at least one); None for no
            limit.

    Raises:
        UsageError: a limit that lets nothing through.
    """

    concurrency: int | None = None
    per_second: float | None = None

    def __post_init__(self) -> None:
        if self.concurrency is not None and self.concurrency < 1:
            raise UsageError("a limit lets at least one action of a kind be driven")
        if self.per_second is not None and not self.per_second > 0:
            raise UsageError("a limit lets some claims of a kind through: per_second is above 0")

    def room(self, held: int, since: datetime | None, at: datetime) -> int | None:
        """How many may be claimed now that nobody owns.

        Args:
            held: how many of the kind somebody owns, the leases lapsed or not: a renewal may be on its way.
            since: what `spent` answered last; None before the first claim.

        Returns:
            None where nothing but the claim's own limit bounds them.
        """
        rooms = [self.rate_room(since, at)]
        if self.concurrency is not None:
            rooms.append(max(0, self.concurrency - held))
        return min((room for room in rooms if room is not None), default=None)

    def rate_room(self, since: datetime | None, at: datetime) -> int | None:
        """How many may be taken over now: those whose lease has lapsed, which are counted as held already."""
        if self.per_second is None:
            return None
        return max(0, (at - self._accrued_since(since, at)) // self._interval)

    def spent(self, count: int, since: datetime | None, at: datetime) -> datetime | None:
        """What to keep of this many claims: the time since which allowance accrues; None where no rate is set."""
        if self.per_second is None:
            return None
        return self._accrued_since(since, at) + count * self._interval

    @property
    def _interval(self) -> timedelta:
        # Rounded up, so that the rate is never exceeded.
        return -floor(-1_000_000 / self.per_second) * _MICROSECOND if self.per_second else timedelta(0)

    def _accrued_since(self, since: datetime | None, at: datetime) -> datetime:
        fullest = at - max(1, floor(self.per_second or 1)) * self._interval
        # Later than now where this claim was held up and others came first, and then they have spent what there was.
        # Much later only if the clock was set back since: nobody waits until it has come that far again.
        return fullest if since is None or since > at + LATE else max(since, fullest)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker asks for.

    Attributes:
        owner: the worker's incarnation: random, new at each start.
        at: now, by the fleet's clock.
        lease: how long others leave alone what is claimed; > 0, at most `LONGEST_LEASE`.
        schemas: the kinds that the worker knows, each with the newest schema version that it can decode. What is of
            another kind, or newer, is left alone (a rolling upgrade).
        limit: how many at most.
        keys: only these, due or not (somebody asks for them by name); None for whatever is due.
        limits: by kind; the same in all workers. They bound `keys` too.

    Raises:
        UsageError: the lease is not positive, or too long.
    """

    owner: str
    at: datetime
    lease: timedelta
    schemas: Mapping[str, int]
    limit: int = 100
    keys: Collection[ActionKey] | None = None
    limits: Mapping[str, Limit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_lease(self.lease)


def check_lease(lease: timedelta) -> None:
    """Refuse a lease that others would not heed.

    Raises:
        UsageError: it is not positive, or longer than `LONGEST_LEASE`.
    """
    if not timedelta(0) < lease <= LONGEST_LEASE:
        raise UsageError(f"a lease is longer than nothing and at most {LONGEST_LEASE}")


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker, as the store knows it.

    Attributes:
        owner: its incarnation.
        name: host and process, for people.
        started_at, seen_at: of the fleet's clock; `seen_at` is its last renewal.
        drives: what it holds, with the end of each lease, by key.
    """

    owner: str
    name: str
    started_at: datetime
    seen_at: datetime
    drives: Sequence[tuple[ActionKey, datetime]] = ()


@runtime_checkable
class SharedStore(Store, Protocol):
    """A store whose actions several workers drive. Stores without it belong to one process at a time, or race."""

    @property
    def is_shared(self) -> bool:
        """Whether its workers claim what they drive. PostgreSQL: always. SQLite: with `?shared=true`."""
        ...

    async def now(self) -> datetime | None:
        """The store's own clock; None where it has none, and the machine's is the fleet's."""
        ...

    async def claim(self, claim: Claim) -> Sequence[Checkpoint]:
        """Take what is due: parked actions whose time has come, and running ones, each unless somebody holds it.

        Somebody holds an action who is its owner and whose lease has not lapsed. A running action that nobody holds was
        left behind or just started, and is due at once. What `claim.owner` owns itself is left out, its lease lapsed or
        not: that it renews, or lets go.

        With `keys`: those of them that are running, parked (due or not), stuck or quarantined, unless somebody other
        than `claim.owner` holds them. Who holds one and claims it by name gets it anew, and its former version is
        fenced off.

        Each gets the owner, a lease until `at + lease`, and its version raised by one; its status, state, history and
        `updated_at` are as they were (so versions in a history have gaps). Kinds that are paused are left out. Never
        more than one worker gets the same version of one.

        Fair: of the due kinds and tenants each gets its turn, so that 100,000 due actions of one tenant do not hold
        up those of another for more than a few claims. Limits are exact: they hold for the whole fleet, whoever claims
        at the same moment.

        Returns:
            The claimed rows as they now stand, in no certain order.
        Raises:
            UsageError: a time without a zone.
        Durability: committed before it returns. Idempotent: no. Cancellation: safe; what was claimed and not heard of
        is taken over when the lease has lapsed.
        Cost: by index; grows with `limit`, not with how many are parked or due. What finds nothing writes nothing.
        """
        ...

    async def renew(self, worker: Worker, *, at: datetime, lease: timedelta) -> frozenset[ActionKey]:
        """Prolong whatever the worker holds (a lease never gets shorter), and note that it is alive.

        What it owns counts, its lease lapsed or not, until somebody else has taken it. Versions stay as they are
        (L-S5). Of `worker` the owner, name and start are kept; it is seen `at`. Workers that have not been seen for
        `REMEMBERED` before `at` and own nothing are forgotten.

        Returns:
            What it owns; whatever it drives beyond that has ended, waits, or is another's by now.
        Durability: committed before it returns. Idempotent: yes.
        """
        ...

    async def let_go(self, owner: str, keys: Collection[ActionKey] | None = None) -> int:
        """Give back what the worker holds (None: all, and it is gone), so that others need not wait for the lease.

        Clears owner and lease, and leaves the version alone. What somebody else holds is not touched.

        Returns:
            How many were given back; they are due at once, or when they were due before.
        Durability: committed before it returns. Idempotent: yes.
        """
        ...

    async def workers(self, *, at: datetime) -> Sequence[Worker]:
        """Who is at work, and on what, by start and owner.

        Those not seen for `REMEMBERED` before `at` and without a lease are left out, and those that never renewed.
        """
        ...

    def listen(self, on_wake: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Call `on_wake` whenever another process has made something due at once. Calls may be lost: poll as well."""
        ...


def shared(store: Store) -> SharedStore | None:
    """The store as one that is shared; None where it is not."""
    # Not by `isinstance`: a store in front of another one hands on what it is asked for, and has nothing of its own.
    return cast("SharedStore", store) if getattr(store, "is_shared", False) else None
