# ruff: noqa: S608 - what is put together are constants and a schema's name that was checked; values are parameters
"""One transaction for all units that wait."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg

from wallet_actions.checkpoint import CancelState
from wallet_actions.coins import ActionKey
from wallet_actions.errors import StoreUnavailableError, WalletActionError
from wallet_actions.store import EMPTY_DELTA, Created, Delta, NewAction, Saved
from wallet_actions_storage.postgres.actions import (
    WriteValues,
    columns,
    create,
    note_of,
    start_values,
    write_one,
)
from wallet_actions_storage.postgres.claims import Gate
from wallet_actions_storage.postgres.delta import free_coins
from wallet_actions_storage.postgres.failures import LostError, is_retried, is_unit_fault, statement_error, unit_error
from wallet_actions_storage.postgres.program import Program
from wallet_actions_storage.postgres.rows import ACTION_COLUMNS, to_action
from wallet_actions_storage.postgres.session import LOCKS_S, Outcome, Session
from wallet_actions_storage.postgres.sql import Sql

_FIND_ALL = (
    f"SELECT {ACTION_COLUMNS} FROM {{schema}}.wa_actions"
    " WHERE (kind, id) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
)
_WHOSE = (
    "SELECT given.place, a.version = given.version AND a.wrote = $4, a.cancel FROM {schema}.wa_actions AS a"
    " JOIN unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS given (kind, id, version, place)"
    " ON a.kind = given.kind AND a.id = given.id"
)
_PAUSE_S = 0.005

Start = Callable[[Sql, int], Program[Any]]
"""Makes a unit's program, for a batch's token."""


@dataclass(frozen=True, slots=True)
class Alone:
    """How a unit is run where it has a transaction to itself, and the server makes one of a single statement.

    Attributes:
        start: one statement that checks the writer's token and, if it writes, sets the next one.
        read_back: reads the answer of one that was committed.
    """

    start: Callable[[Sql, Gate], Program[Any]]
    read_back: Callable[[Sql], Program[Any]]


class ApartError(Exception):
    """Some unit's statement broke a constraint that is checked at COMMIT: each has to have its own transaction.

    Attributes:
        error: what the app is to be told, where the unit is alone.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__("a constraint was broken at COMMIT")
        self.error = error


class _RedoError(Exception):
    """A unit failed after it had written: the transaction is run again, with a savepoint for each."""


class Unit:
    """A unit that waits for its transaction: a plain write, a plain start, or whatever a program does.

    Args:
        answer: where the caller waits.
        given: of a write.
        new: of a start.
        start: of anything else.
        counter: what it takes values of, and locks nothing else.
        alone: of what can be a transaction by itself.
    """

    __slots__ = ("alone", "answer", "counter", "error", "given", "new", "result", "start")

    def __init__(
        self,
        answer: Future[Any],
        *,
        given: WriteValues | None = None,
        new: NewAction | None = None,
        start: Start | None = None,
        counter: str | None = None,
        alone: Alone | None = None,
    ) -> None:
        self.answer = answer
        self.given = given
        self.new = new
        self.start = start
        self.counter = counter
        self.alone = alone
        self.result: Any = None
        self.error: Exception | None = None

    def program(self, sql: Sql, token: int) -> Program[Any]:
        """What it does, as a program."""
        if self.given is not None:
            return write_one(self.given, sql, token)
        if self.new is not None:
            return create(self.new, sql, token)
        if self.start is None:
            raise StoreUnavailableError("a unit without anything to do")
        return self.start(sql, token)

    @property
    def delta(self) -> Delta:
        """What it writes beside the checkpoint."""
        if self.given is not None:
            return self.given.write.delta
        return EMPTY_DELTA if self.new is None else self.new.delta

    def resolve(self) -> None:
        """Tell the caller."""
        if self.answer.done():
            return
        if self.error is not None:
            self.answer.set_exception(self.error)
        else:
            self.answer.set_result(self.result)


@dataclass(slots=True)
class Groups:
    """How a batch is to be written: what can be in one statement each, in the order of the keys, and the rest.

    All batches of all processes lock in one order, as far as that is known beforehand: actions, counters by name, free
    coins by id, whatever commands lock, the counts of what has ended. A deadlock costs the server's `deadlock_timeout`,
    a second, in which nobody of either process is answered.
    """

    go_on: list[Unit] = field(default_factory=list)
    end: list[Unit] = field(default_factory=list)
    start: list[Unit] = field(default_factory=list)
    rest: list[Unit] = field(default_factory=list)

    @classmethod
    def of(cls, units: Sequence[Unit]) -> Groups:
        """Sort a batch. Two units on one action keep their order: the second is in the rest."""
        groups = cls()
        seen: set[ActionKey] = set()
        for unit in units:
            given, new = unit.given, unit.new
            if given is not None:
                is_grouped = given.is_plain and given.key not in seen
                seen.add(given.key)
                (groups.rest if not is_grouped else groups.end if given.is_end else groups.go_on).append(unit)
            elif new is not None:
                key = new.checkpoint.key
                is_grouped = is_plain_start(new) and key not in seen
                seen.add(key)
                (groups.start if is_grouped else groups.rest).append(unit)
            else:
                groups.rest.append(unit)
        for group in (groups.go_on, groups.end, groups.start):
            group.sort(key=_key)
        groups.rest = in_order(groups.rest)
        return groups


def is_plain_start(new: NewAction) -> bool:
    """Whether all of it is the row and its history."""
    delta, checkpoint = new.delta, new.checkpoint
    return checkpoint.version == 0 and not checkpoint.status.is_terminal and delta == type(delta)()


class Attempt:
    """One try to commit a batch; it may be lost on the way, and then be told whether it went through.

    Args:
        token: of this try alone.
        previous: the writer's token in the database until then.
        locks_s: see `Session.begin`.

    Attributes:
        known: the writer's token in the database once it is committed: one that wrote nothing leaves the former.
        outcome: what the committed units have to be remembered for.
        is_started: whether anything of it may have reached the server.
        is_committed: whether it is known to be committed.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        sql: Sql,
        writer: str,
        slot: int,
        token: int,
        previous: int,
        *,
        locks_s: float = LOCKS_S,
    ) -> None:
        self.units = units
        self.token = token
        self.outcome = Outcome()
        self.is_started = False
        self.is_committed = False
        self._sql = sql
        self._writer = writer
        self._slot = slot
        self._previous = self.known = previous
        self._groups = Groups.of(units)
        self._locks_s = locks_s
        self._is_alone = False

    async def run(self, session: Session, deadline: float) -> None:
        """Commit it.

        Raises:
            LostError: the outcome is not known.
            ApartError: see there; nothing was written.
            asyncpg.PostgresError: the database failed; nothing was written.
        """
        loop = asyncio.get_running_loop()
        is_careful = False
        while True:
            self.outcome = Outcome()
            try:
                await self._try(session, is_careful=is_careful)
            except _RedoError:
                is_careful = True
            except asyncpg.PostgresError as error:
                if is_retried(error) and loop.time() < deadline:
                    await session.roll_back()
                    await asyncio.sleep(_PAUSE_S)
                elif not is_careful and is_unit_fault(error):
                    is_careful = True
                else:
                    raise
            except (ValueError, OverflowError):
                if is_careful:
                    raise
                is_careful = True
            else:
                self.is_committed = True
                self.known = self.token if self.outcome.has_written else self._previous
                return
            finally:
                await session.roll_back()

    async def read_back(self, session: Session) -> None:
        """Find out which units of a committed batch went through, where the connection took the answer with it.

        A row at the version that a unit would have made, written by this very batch, was written by the unit. Any other
        version means that somebody else has gone on, which is what the driver is to be told anyway.
        """
        if not self._is_alone:
            return
        (unit, *_) = self.units
        if unit.alone is not None:
            await session.begin()
            try:
                unit.result = await session.run(unit.alone.read_back(self._sql), Outcome())
            finally:
                await session.roll_back()
            return
        units = self._groups.go_on or self._groups.end
        keys = [unit.given.key for unit in units if unit.given is not None]
        versions = [unit.given.write.expected_version + 1 for unit in units if unit.given is not None]
        await session.begin()
        try:
            rows = await session.fetch(
                _WHOSE.format(schema=self._sql.schema),
                [key.kind for key in keys],
                [key.id for key in keys],
                versions,
                self.token,
            )
        finally:
            await session.roll_back()
        self._answer(units, {place: cancel for place, is_ours, cancel in rows if is_ours})

    async def _try(self, session: Session, *, is_careful: bool) -> None:
        groups = self._groups
        alone = self.units[0].alone if len(self.units) == 1 else None
        is_single = not (groups.rest or groups.start) and bool(groups.go_on) != bool(groups.end)
        self.is_started = True
        self._is_alone = (is_single or alone is not None) and session.is_direct and not is_careful
        self.outcome.has_written = bool(groups.go_on or groups.end or groups.start)
        if self._is_alone and alone is not None:
            await self._run_alone(session, self.units[0], alone)
            return
        if self._is_alone:
            await self._write_alone(session)
            return
        status = await session.begin(
            f"SELECT 1 FROM {self._sql.schema}.wa_writers"
            f" WHERE writer = '{self._writer}' AND token = {self._previous} FOR UPDATE",
            locks_s=self._locks_s,
        )
        if status != "SELECT 1":
            raise LostError("shut out")
        if is_careful:
            await self._run_each(session, in_order(self.units), self._run_guarded)
        else:
            await self._run_groups(session)
        await self._commit(session)

    async def _run_alone(self, session: Session, unit: Unit, alone: Alone) -> None:
        gate = Gate(self._writer, self._previous, self.token)
        unit.error = None
        try:
            unit.result = await session.run(alone.start(self._sql, gate), self.outcome)
        except LostError:
            raise
        except WalletActionError as error:
            unit.error = error

    async def _write_alone(self, session: Session) -> None:
        units = self._groups.go_on or self._groups.end
        values = columns(unit.given.values for unit in units if unit.given is not None)
        if self._groups.end:
            rows = await session.fetch(
                self._sql.end_alone, *values, self.token, self._writer, self._previous, self._slot
            )
        else:
            rows = await session.fetch(self._sql.go_on_alone, *values, self.token, self._writer, self._previous)
        if not rows:
            raise LostError("shut out")
        self._answer(units, {row[0]: row[1] for row in rows if row[0] is not None})

    async def _run_groups(self, session: Session) -> None:
        groups, sql = self._groups, self._sql
        for units, query in ((groups.go_on, sql.go_on), (groups.end, sql.end)):
            if units:
                values = columns(unit.given.values for unit in units if unit.given is not None)
                rows = await session.fetch(query, *values, self.token)
                self._answer(units, {row[0]: row[1] for row in rows})
        if groups.start:
            await self._run_starts(session)
        await self._run_each(session, groups.rest, self._run_boldly)

    async def _run_each(
        self, session: Session, units: Sequence[Unit], run: Callable[[Session, Unit], Awaitable[None]]
    ) -> None:
        free = free_coins((unit.delta for unit in units), self._sql)
        for unit in units:
            if free is not None and unit.counter is None:
                await session.fetch(free[0], *free[1])
                free = None
            await run(session, unit)

    async def _run_boldly(self, session: Session, unit: Unit) -> None:
        outcome = Outcome()
        unit.error = None
        try:
            unit.result = await session.run(unit.program(self._sql, self.token), outcome)
        except LostError:
            raise
        except WalletActionError as error:
            if outcome.has_written:
                raise _RedoError from None
            unit.error = error
        else:
            self.outcome.add(outcome)

    async def _run_starts(self, session: Session) -> None:
        units = self._groups.start
        news = [unit.new for unit in units if unit.new is not None]
        values = columns(start_values(new.checkpoint, new.notes) for new in news)
        rows = {row[0]: row[1] for row in await session.fetch(self._sql.start, *values, self.token)}
        known: dict[ActionKey, Any] = {}
        if len(rows) < len(units):
            keys = [new.checkpoint.key for place, new in enumerate(news, start=1) if place not in rows]
            found = await session.fetch(
                _FIND_ALL.format(schema=self._sql.schema), [key.kind for key in keys], [key.id for key in keys]
            )
            known = {checkpoint.key: checkpoint for checkpoint in map(to_action, found)}
        for place, (unit, new) in enumerate(zip(units, news, strict=True), start=1):
            unit.error = None
            if place in rows:
                unit.result = Created(replace(new.checkpoint, row=rows[place]), is_new=True)
                self.outcome.add(note_of(new.checkpoint))
            else:
                unit.result = Created(known[new.checkpoint.key], is_new=False)

    async def _run_guarded(self, session: Session, unit: Unit) -> None:
        outcome = Outcome()
        unit.error = None
        try:
            unit.result = await session.run_guarded(unit.program(self._sql, self.token), outcome)
        except LostError:
            raise
        except (WalletActionError, asyncpg.PostgresError, ValueError, OverflowError) as error:
            if isinstance(error, asyncpg.PostgresError) and not is_unit_fault(error):
                raise
            unit.error = unit_error(error)
        else:
            self.outcome.add(outcome)

    async def _commit(self, session: Session) -> None:
        if not self.outcome.has_written:
            return
        refusal: Exception | None = None
        await session.count(self.outcome, self._sql, self._slot)
        try:
            status = await session.execute(finishing(self._sql.schema, self._writer, self.token, self.outcome.at))
        except asyncpg.PostgresError as error:
            if not is_unit_fault(error):
                raise
            refusal = statement_error(error)
        else:
            if status != "COMMIT":
                raise LostError("rolled back")
        if refusal is not None:
            raise ApartError(refusal)

    def _answer(self, units: Sequence[Unit], cancels: dict[int, str]) -> None:
        for place, unit in enumerate(units, start=1):
            given = unit.given
            if given is None:
                continue
            unit.error = None
            if place in cancels:
                is_asked = cancels[place] == CancelState.REQUESTED.value
                unit.result = Saved(given.write.expected_version + 1, is_asked)
                self.outcome.add(given.note)
            else:
                unit.error = given.conflict()


def finishing(schema: str, writer: str, token: int, at: int | None) -> str:
    """What ends a transaction: the proof that it was committed, and the commit."""
    seen = f", at = greatest(at, {at})" if at is not None else ""
    return f"UPDATE {schema}.wa_writers SET token = {token}{seen}, seen = now() WHERE writer = '{writer}'; COMMIT"


def in_order(units: Sequence[Unit]) -> list[Unit]:
    """The order in which units lock what they share with others; see `Groups`. Those of a sort keep theirs."""
    return sorted(units, key=_rank)


def _rank(unit: Unit) -> tuple[int, bytes]:
    if unit.counter is not None:
        return 0, _bytes(unit.counter)
    return (2 if unit.start is not None else 1), b""


def _key(unit: Unit) -> ActionKey:
    # Texts are in the order of their bytes, as they are in the database.
    if unit.given is not None:
        return unit.given.key
    return ActionKey("", "") if unit.new is None else unit.new.checkpoint.key


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
