"""Notes what a worker does to a store, for `linear` to judge; survives the worker's death.

    store = recorded(open_store(url), worker="w1", write=lambda line: print(line, file=notes, flush=True))

Each operation is a line when it begins and another when it is answered; `operations` reads them back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

from wallet_actions.checkpoint import Checkpoint
from wallet_actions.clock import SystemClock
from wallet_actions.coins import ActionKey
from wallet_actions.errors import StoreUnavailableError, VersionConflictError, WalletActionError
from wallet_actions.fleet import Claim
from wallet_actions.store import Created, Delta, NewAction, Saved, Store, Write
from wallet_actions.testing.linear import Answer, Operation


class RecordedStore:
    """A store in front of another one; use `recorded`."""

    def __init__(self, store: Store, worker: str, write: Callable[[str], None]) -> None:
        self._store = store
        self._worker = worker
        self._write_line = write
        self._clock = SystemClock()

    async def __aenter__(self) -> RecordedStore:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._store.__aexit__(*exc)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def create(self, new: NewAction, *, conn: object | None = None) -> Created:
        """Note what is started, with its children."""
        begun = self._begin(self._starts([new]))
        created: Created = await self._answered(begun, lambda: self._store.create(new, conn=conn), is_told=False)
        for operation in begun:
            is_made = created.is_new and operation.key == new.checkpoint.key
            self._end(operation, Answer.OK if is_made else Answer.UNKNOWN if created.is_new else Answer.REFUSED)
        return created

    async def save(self, write: Write) -> Saved:
        """Note the write, and the children that it starts."""
        saved: Saved = await self._answered(self._begin_write("save", write), lambda: self._store.save(write))
        return saved

    async def finish(self, write: Write) -> Saved:
        """As `save`."""
        saved: Saved = await self._answered(self._begin_write("finish", write), lambda: self._store.finish(write))
        return saved

    async def load(self, key: ActionKey) -> Checkpoint | None:
        """Note what was seen."""
        begun_s = self._clock.monotonic()
        checkpoint = await self._store.load(key)
        if checkpoint is not None:
            self._end(Operation(self._worker, "load", key, checkpoint.version, begun_s), Answer.OK)
        return checkpoint

    async def claim(self, claim: Claim) -> Sequence[Checkpoint]:
        """Note what was claimed."""
        (whole,) = self._begin([Operation(self._worker, "claims", ActionKey("", ""), 0, self._clock.monotonic())])
        rows: Sequence[Checkpoint] = await cast("Any", self._store).claim(claim)
        for row in rows:
            self._end(Operation(self._worker, "claim", row.key, row.version, whole.begun_s), Answer.OK)
        self._end(whole, Answer.OK)
        return rows

    def _begin_write(self, name: str, write: Write) -> list[Operation]:
        checkpoint = write.checkpoint
        begun_s = self._clock.monotonic()
        own = self._operation(name, checkpoint, begun_s, write.delta)
        return self._begin([own, *self._starts(write.delta.start)])

    def _starts(self, new: Iterable[NewAction]) -> list[Operation]:
        begun_s = self._clock.monotonic()
        made = []
        for one in new:
            made.append(self._operation("create", one.checkpoint, begun_s, one.delta))
            made += self._starts(one.delta.start)
        return made

    def _operation(self, name: str, row: Checkpoint, begun_s: float, delta: Delta) -> Operation:
        return Operation(
            self._worker,
            name,
            row.key,
            row.version,
            begun_s,
            reserve=delta.reserve,
            release=delta.release,
            spend=delta.spend,
        )

    def _begin(self, operations: list[Operation]) -> list[Operation]:
        for operation in operations:
            self._write_line(operation.to_json())
        return operations

    async def _answered(self, begun: list[Operation], work: Callable[[], Any], *, is_told: bool = True) -> Any:
        try:
            answer = await work()
        except VersionConflictError:
            self._end_all(begun, Answer.CONFLICT)
            raise
        except StoreUnavailableError:
            raise  # it may have been committed
        except WalletActionError:
            self._end_all(begun, Answer.REFUSED)
            raise
        if is_told:
            self._end(begun[0], Answer.OK)  # a child may have been there already: the versions tell
        return answer

    def _end_all(self, begun: list[Operation], answer: Answer) -> None:
        self._end(begun[0], answer)
        for child in begun[1:]:
            self._end(child, Answer.REFUSED)

    def _end(self, operation: Operation, answer: Answer) -> None:
        self._write_line(replace(operation, ended_s=self._clock.monotonic(), answer=answer).to_json())


def recorded(store: Store, worker: str, write: Callable[[str], None]) -> Store:
    """A store that notes what is done to it.

    Args:
        worker: its incarnation, for people; another one at each start.
        write: takes a line; durable enough to survive SIGKILL, such as a write to a file without a buffer.
    """
    return cast("Store", RecordedStore(store, worker, write))


def operations(lines: Iterable[str]) -> list[Operation]:
    """Read the notes of all workers back; a last line that was cut off is left out.

    Raises:
        ValueError: some other line is not one.
    """
    read: dict[tuple[str, str, ActionKey, int, float], Operation] = {}
    for line in lines:
        if line.rstrip().endswith("}"):
            operation = Operation.from_json(line)
            place = (operation.worker, operation.name, operation.key, operation.version, operation.begun_s)
            read[place] = operation
    return list(read.values())
