"""Drives actions, and is the only place that saves them.

For one action: take the process's lock, reload, ask for the next step, commit it under the version that was read,
repeat. Data flows one way: action → transition → executor → store. Whoever wants to know what happened observes the
events.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import TypeVar

from wallet_actions.action import Action
from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.clock import Clock, SystemClock
from wallet_actions.codec import fault
from wallet_actions.coins import ActionKey
from wallet_actions.delta import notes_of, to_delta, to_new_action
from wallet_actions.errors import (
    ActionFailedError,
    CheckpointDecodeError,
    InvariantError,
    NotFinishedError,
    ReservationError,
    StatementError,
    UnknownActionError,
    UsageError,
    VersionConflictError,
    WalletActionError,
)
from wallet_actions.events import Event, EventKind, Observer, tell
from wallet_actions.fleet import Limit, shared
from wallet_actions.leases import LEASE, Leases
from wallet_actions.locks import Calls, KeyLocks
from wallet_actions.outcome import DriveMode, DriveResult, Outcome, Started, ending
from wallet_actions.registry import Kind, Registry, StateWriter
from wallet_actions.retry import RetryPolicy
from wallet_actions.step import Decision, Refused, Stuck, after_error, decide, record
from wallet_actions.store import EMPTY_DELTA, Delta, Saved, Store, Write, write_of
from wallet_actions.successor import answered_cancel, successor
from wallet_actions.transition import NO_CHANGES, Changes, Next, Park

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

PAUSES_GOOD_FOR_S = 1.0
RESERVATION_TRIES = 3
OTHERS_LOOKED_AT_EVERY = timedelta(seconds=1)


class Executor:
    """Starts and drives the actions of some kinds on one store.

    Where several workers share the store, an action is claimed before it is driven, see `fleet`.

    Args:
        store: open, or to be opened before the first call.
        wallet: what the steps act on; handed to each of them.
        registry: the kinds that can be driven.
        observers: told of everything that happens, after it is committed.
        lease: on a shared store, how long others leave alone what this worker drives, unless it is renewed.
        limits: on a shared store, what the kinds may do in the whole fleet; the same in all workers.

    Attributes:
        clock: the fleet's on a shared store.
        leases: None where the store is not shared.

    Raises:
        UsageError: the lease is not positive, or too long.
    """

    def __init__(
        self,
        store: Store,
        wallet: Any,
        registry: Registry,
        *,
        clock: Clock | None = None,
        observers: Sequence[Observer] = (),
        lease: timedelta = LEASE,
        limits: Mapping[str, Limit] | None = None,
    ) -> None:
        self.store = store
        self.registry = registry
        self.clock: Clock = clock or SystemClock()
        self.leases: Leases | None = None
        fleet = shared(store)
        if fleet is not None:
            self.leases = Leases(fleet, registry, self.clock, lease=lease, limits=limits)
            self.clock = self.leases.clock
        self._wallet = wallet
        self._observers = list(observers)
        self._locks = KeyLocks()
        self._calls = Calls()
        self._paused: frozenset[str] = frozenset()
        self._paused_until_s = -1.0

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Add an observer.

        Returns:
            What takes it away again.
        """
        self._observers.append(observer)

        def forget() -> None:
            if observer in self._observers:
                self._observers.remove(observer)

        return forget

    async def start(
        self, action: Action[Any, Any, ResultT], changes: Changes = NO_CHANGES, *, conn: object | None = None
    ) -> Started[ResultT]:
        """Make an action durable; whoever drives it comes later (L-D4).

        Args:
            changes: written in the same transaction: the coins to reserve, say.
            conn: an open transaction of the embedding app; durable once it commits. Call `notify` then.
        Returns:
            Whether it is new. The same kind and id again is the same action, also after it ended (G6).
        Raises:
            UsageError: its class is not registered, or its id will not do.
            ReservationError: a coin is not spendable any more: choose again.
            InvariantError, StatementError: see `Changes`. In all these cases nothing was written.
        Durability: committed when it returns, unless `conn` is given. Idempotent: by kind and id.
        """
        leases = self.leases
        if leases is not None:
            await leases.clock.begin()
        new = to_new_action(action, changes, self.registry, now=self.clock.now(), traceparent=_current_traceparent())
        if leases is not None and conn is None:
            new = leases.marked(new)
        created = await self.store.create(new, conn=conn)
        checkpoint = created.checkpoint
        if created.is_new:
            if leases is not None:
                leases.take_in_hand(checkpoint)
            if conn is None:  # else it is not committed yet
                self.tell(EventKind.STARTED, checkpoint)
                self._tell_children(new.delta)
            return Started(checkpoint.key, checkpoint.status, is_new=True)
        result = None
        if checkpoint.status is Status.DONE:
            result = self._result(checkpoint)
        return Started(checkpoint.key, checkpoint.status, is_new=False, result=result)

    async def drive(
        self,
        key: ActionKey,
        mode: DriveMode = DriveMode.UNTIL_PARK,
        *,
        wait: bool = False,
        only_if_due: bool = False,
    ) -> DriveResult[Any]:
        """Drive one action as far as the mode says.

        Args:
            mode: UNTIL_DONE sleeps through parks that have a wake time. Others may drive the action meanwhile.
            wait: whether to queue where another task or worker drives it; otherwise BUSY is the answer (L-D1).
            only_if_due: leave it alone where it is parked for later.
        Raises:
            UnknownActionError: there is no such action.
            StoreUnavailableError: the store failed; the action is as it was last committed.
        Cancellation: safe; the step that was under way runs again.
        """
        with self._calls.enter(key) as call:
            while True:
                if not await self._locks.acquire(key, wait=wait):
                    if self.leases is not None:
                        self.leases.put_back(key)
                    return DriveResult(Outcome.BUSY, key)
                try:
                    is_notified = call.take_notice()
                    result = await self._drive(key, only_if_due=only_if_due and not is_notified)
                finally:
                    self._locks.release(key)
                if wait and result.outcome is Outcome.BUSY and result.status is None:
                    # Another worker drives it, as another task might.
                    await call.sleep(self.clock, self.clock.now() + OTHERS_LOOKED_AT_EVERY)
                    continue
                if mode is DriveMode.UNTIL_PARK or result.outcome is not Outcome.PARKED:
                    return result
                if not call.is_notified:
                    if result.wake_at is None:
                        return result
                    await call.sleep(self.clock, result.wake_at)
                wait = only_if_due = True

    def notify(self, key: ActionKey) -> None:
        """Wake whoever drives this action until it is done: something happened, do not sleep over it."""
        self._calls.notify(key)

    async def result(self, kind: type[Action[Any, Any, ResultT]], id: str, *, poll: timedelta | None = None) -> ResultT:
        """Wait for an action to end, whoever drives it.

        Args:
            poll: how often to look for what other processes did; by default every second.
        Returns:
            Its result; final (G7). Also long after it ended.
        Raises:
            ActionFailedError: it failed or was cancelled; final.
            NotFinishedError: it is stuck, paused or quarantined: a person has to act.
            UnknownActionError: there is no such action.
        """
        key = ActionKey(kind.kind, id)
        changed = asyncio.Event()

        def look(event: Event) -> None:
            if event.key == key:
                changed.set()

        forget = self.observe(look)
        try:
            while True:
                changed.clear()
                checkpoint = await self.store.load(key)
                if checkpoint is None:
                    raise UnknownActionError(*key)
                if checkpoint.status is Status.DONE:
                    result: ResultT = self._result(checkpoint)
                    return result
                if checkpoint.status.is_terminal:
                    raise ActionFailedError(*key, checkpoint.status, checkpoint.error)
                if not self._goes_on(checkpoint):
                    raise NotFinishedError(*key, checkpoint.status, checkpoint.error)
                await self.clock.wait(changed, poll or timedelta(seconds=1))
        finally:
            forget()

    def _goes_on(self, checkpoint: Checkpoint) -> bool:
        if checkpoint.status is Status.QUARANTINED:
            # By a program on the same store that does not know the kind; who does revives it.
            return self._decoded(checkpoint) is not None
        return checkpoint.status in (Status.RUNNING, Status.PARKED)

    async def is_kind_paused(self, kind: str) -> bool:
        """Whether an operator has paused the kind; what another process paused is seen within a second."""
        now_s = self.clock.monotonic()
        if now_s >= self._paused_until_s:
            self._paused = await self.store.paused_kinds()
            self._paused_until_s = now_s + PAUSES_GOOD_FOR_S
        return kind in self._paused

    def forget_pauses(self) -> None:
        """Look again which kinds are paused before the next drive."""
        self._paused_until_s = -1.0

    # Driving

    def decide(self, action: Action[Any, Any, Any], checkpoint: Checkpoint, policy: RetryPolicy) -> Awaitable[Decision]:
        """Take one step, without writing anything. A test may put another in its place, which takes it twice."""
        return decide(action, self._wallet, checkpoint, policy, self.clock)

    async def _drive(self, key: ActionKey, *, only_if_due: bool) -> DriveResult[Any]:
        if self.leases is not None:
            return await self._drive_held(self.leases, key, only_if_due=only_if_due)
        checkpoint = await self.store.load(key)
        if checkpoint is None:
            raise UnknownActionError(*key)
        halted = await self._halted(checkpoint, only_if_due=only_if_due)
        return halted if halted is not None else await self._go(checkpoint)

    async def _drive_held(self, leases: Leases, key: ActionKey, *, only_if_due: bool) -> DriveResult[Any]:
        """Drive an action that several workers may want: it is claimed first, and what was claimed is driven."""
        checkpoint = leases.from_hand(key)
        if checkpoint is None and not only_if_due:
            checkpoint = await leases.take(key)
        if checkpoint is None:
            seen = await self.store.load(key)
            if seen is None:
                raise UnknownActionError(*key)
            halted = await self._halted(seen, only_if_due=only_if_due)
            if halted is not None:
                return halted
            if not leases.knows(seen):
                # Newer than this code: others are there who know it.
                return DriveResult(Outcome.BUSY, key, seen.status)
            if only_if_due:
                checkpoint = await leases.take(key)
            if checkpoint is None:
                return DriveResult(Outcome.BUSY, key)
        with leases.driving(key):
            halted = await self._halted(checkpoint, only_if_due=False)
            result = halted if halted is not None else await self._go(checkpoint)
        if result.outcome is Outcome.PAUSED:  # its kind is, and nothing was written
            leases.abandon(key)
        return result

    async def _go(self, checkpoint: Checkpoint) -> DriveResult[Any]:
        key = checkpoint.key
        try:
            kind = self.registry.named(key)
            action = kind.decode(checkpoint)
        except CheckpointDecodeError as error:
            return await self._quarantine(checkpoint, error)
        try:
            return await self._steps(kind, action, checkpoint)
        except VersionConflictError as error:
            # Somebody else handled it (L-S4): no write, no compensation, not even a look.
            self.tell(EventKind.SUPERSEDED, checkpoint)
            return DriveResult(Outcome.SUPERSEDED, key, error=error)

    async def _halted(self, checkpoint: Checkpoint, *, only_if_due: bool) -> DriveResult[Any] | None:
        key, status = checkpoint.key, checkpoint.status
        if status is Status.DONE:
            result = self._result(checkpoint)
            return DriveResult(Outcome.DONE, key, status, self._decoded(checkpoint), result=result)
        if status.is_terminal:
            ended = ActionFailedError(*key, status, checkpoint.error)
            return DriveResult(Outcome.FAILED, key, status, self._decoded(checkpoint), error=ended)
        if status is Status.PAUSED or await self.is_kind_paused(key.kind):
            return DriveResult(Outcome.PAUSED, key, status)
        is_early = status is Status.PARKED and checkpoint.wake_at is not None and checkpoint.wake_at > self.clock.now()
        if only_if_due and is_early:
            return DriveResult(Outcome.PARKED, key, status, wake_at=checkpoint.wake_at)
        return None

    async def _steps(self, kind: Kind, action: Action[Any, Any, Any], checkpoint: Checkpoint) -> DriveResult[Any]:
        is_current = checkpoint.schema_version == kind.schema_version
        writer = kind.writer(action, checkpoint.state) if is_current else kind.writer()
        while True:
            decision, following = await self._step(kind, action, checkpoint, writer)
            ended = ending(kind, action, checkpoint, following, decision)
            if ended is not None:
                return ended
            checkpoint = following
            if isinstance(decision.answer, (Next, Park)):
                action = decision.answer.action
            is_recent = self.clock.monotonic() < self._paused_until_s
            if kind.name in self._paused if is_recent else await self.is_kind_paused(kind.name):
                return DriveResult(Outcome.PAUSED, checkpoint.key, checkpoint.status, action)

    async def _step(
        self, kind: Kind, action: Action[Any, Any, Any], checkpoint: Checkpoint, writer: StateWriter
    ) -> tuple[Decision, Checkpoint]:
        policy = kind.action_class.retry
        tries = RESERVATION_TRIES
        decision = await self.decide(action, checkpoint, policy)
        while True:
            try:
                write, event = self._writing(kind, checkpoint, decision, writer)
                save = self.store.finish if write.checkpoint.status.is_terminal else self.store.save
                saved = await save(write)
                return decision, self._written(write, event, decision, saved)
            except (ReservationError, InvariantError, StatementError, UsageError) as error:
                if tries < 0:
                    raise  # it cannot even be stuck
                refusal = error
            if isinstance(refusal, ReservationError) and tries > 1:
                # A coin was taken meanwhile: the same step again from the same state, but not for ever.
                tries -= 1
                decision = await self.decide(action, checkpoint, policy)
            elif tries > 0:
                tries = 0
                decision = await after_error(refusal, action, self._wallet, checkpoint, policy, self.clock.now())
            else:
                tries = -1
                decision = Decision(Stuck(refusal), is_failure=True, is_fault=True)

    # Saving

    def _writing(
        self, kind: Kind, checkpoint: Checkpoint, decision: Decision, writer: StateWriter
    ) -> tuple[Write, EventKind]:
        try:
            return self._to_write(kind, checkpoint, decision, self.clock.now(), writer)
        except WalletActionError:
            raise
        except Exception as error:  # noqa: BLE001 what an action answers is other people's (L-D12)
            raise InvariantError(
                f"{checkpoint.key}: what the step answered cannot be written ({fault(error)})",
                rule="a step answers what can be written",
            ) from None

    def _written(self, write: Write, event: EventKind, decision: Decision, saved: Saved) -> Checkpoint:
        following = write.checkpoint
        if self._calls.asleep:
            self._calls.stir(following.key)
        if saved.is_cancel_requested:
            following = replace(following, cancel=CancelState.REQUESTED)
        elif write.cancel is not None:
            following = replace(following, cancel=write.cancel)
        if write.delta is EMPTY_DELTA and not self._observers and not decision.needs_operator:
            return following
        if decision.needs_operator:
            logger.warning(
                "an action needs the operator", extra={"action_kind": following.kind, "action_id": following.id}
            )
            self.tell(EventKind.NEEDS_OPERATOR, following)
        self.tell(event, following)
        self._tell_children(write.delta)
        return following

    def _to_write(
        self, kind: Kind, checkpoint: Checkpoint, decision: Decision, now: datetime, writer: StateWriter
    ) -> tuple[Write, EventKind]:
        answer = decision.answer
        changes = NO_CHANGES if isinstance(answer, (Stuck, Refused)) else answer.changes
        delta = EMPTY_DELTA
        notes: tuple[str, ...] = ()
        if changes is not NO_CHANGES:
            delta = to_delta(changes, checkpoint.key, self.registry, now=now, traceparent=checkpoint.traceparent)
            notes = notes_of(changes, checkpoint.key)
        following, event = successor(kind, checkpoint, decision, now, writer)
        cancel = None
        if checkpoint.cancel is not CancelState.NONE:
            cancel = answered_cancel(checkpoint, decision)
        return write_of(checkpoint.version, following, event.value, notes, delta, cancel), event

    async def _quarantine(self, checkpoint: Checkpoint, error: CheckpointDecodeError) -> DriveResult[Any]:
        now = self.clock.now()
        if checkpoint.status is not Status.QUARANTINED:
            kept = replace(
                checkpoint,
                version=checkpoint.version + 1,
                status=Status.QUARANTINED,
                error=record(error),
                updated_at=now,
            )
            try:
                await self.store.save(Write(checkpoint.version, kept, EventKind.QUARANTINED.value))
            except VersionConflictError as conflict:
                return DriveResult(Outcome.SUPERSEDED, checkpoint.key, error=conflict)
            logger.error("an action is quarantined", extra={"action_kind": checkpoint.kind, "action_id": checkpoint.id})
            self.tell(EventKind.QUARANTINED, kept)
        return DriveResult(Outcome.QUARANTINED, checkpoint.key, Status.QUARANTINED, error=error)

    def _result(self, checkpoint: Checkpoint) -> Any:
        try:
            return self.registry.named(checkpoint.key).result.decode(checkpoint.result)
        except CheckpointDecodeError:
            raise
        except Exception as error:  # noqa: BLE001 validators are other people's code
            raise CheckpointDecodeError(
                f"{checkpoint.key} is done, but its result cannot be read by this code ({type(error).__name__})",
                kind=checkpoint.kind,
                id=checkpoint.id,
            ) from None

    def _decoded(self, checkpoint: Checkpoint) -> Action[Any, Any, Any] | None:
        try:
            return self.registry.decode(checkpoint)
        except CheckpointDecodeError:
            return None

    def tell(self, event: EventKind, checkpoint: Checkpoint) -> None:
        """Tell the observers what was committed."""
        if self._observers:
            tell(
                self._observers,
                Event(
                    kind=event,
                    key=checkpoint.key,
                    at=checkpoint.updated_at,
                    version=checkpoint.version,
                    phase=checkpoint.phase,
                    status=checkpoint.status,
                    attempts=checkpoint.attempts,
                    wake_at=checkpoint.wake_at,
                    error=checkpoint.error,
                ),
            )

    def _tell_children(self, delta: Delta) -> None:
        for child in delta.start:
            self.tell(EventKind.STARTED, child.checkpoint)
            self._tell_children(child.delta)


def _current_traceparent() -> str | None:
    # Whoever has begun a span has imported it; for all others it is a tenth of what our own import takes.
    get_current_span = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if get_current_span is None:
        return None
    context = get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
