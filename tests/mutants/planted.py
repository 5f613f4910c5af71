"""Bugs planted by hand in the engine and its stores: those that the testing kit looks for in people's actions.

Each is a source patch. A patch that does not fit the code any more fails the run: mend it, do not drop it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

EXECUTOR = "wallet_actions/executor.py"
STEP = "wallet_actions/step.py"
SUCCESSOR = "wallet_actions/successor.py"
MEMORY = "storage/wallet_actions_storage/memory/store.py"
UNIT = "storage/wallet_actions_storage/memory/unit.py"
ACTIONS = "storage/wallet_actions_storage/sqlite/actions.py"
DELTA = "storage/wallet_actions_storage/sqlite/delta.py"
STARTS = "storage/wallet_actions_storage/sqlite/starts.py"
PACK = "storage/wallet_actions_storage/sqlite/pack.py"
BATCH = "storage/wallet_actions_storage/sqlite/batch.py"


class PatchError(Exception):
    """A patch does not fit the code."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug, and how to plant it.

    Attributes:
        path: the file.
        edits: what is searched for, and what takes its place; each fits exactly once.
    """

    bug: str
    path: str
    edits: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """Its name among the mutants."""
        return f"{self.path}::planted::{self.bug}"

    def apply(self, source: str) -> str:
        """The file with the bug.

        Raises:
            PatchError: a search finds nothing, or more than one place.
        """
        for search, replacement in self.edits:
            if source.count(search) != 1:
                raise PatchError(f"{self.key}: found {source.count(search)} times: {search!r}")
            source = source.replace(search, replacement)
        return source


def _planted(bug: str, path: str, *texts: str) -> Planted:
    return Planted(bug, path, tuple(zip(texts[::2], texts[1::2], strict=True)))


_MEMORY_CHECK = """\
        if record is None or record.version != expected or record.status.is_terminal:
            raise VersionConflictError(checkpoint.kind, checkpoint.id, expected)
"""
_SQLITE_CHECK = """\
        if version != write.expected_version or ended_at is not None:
            raise self._conflict()
"""
_SQLITE_DELTA = """\
        if not self.is_plain:
            yield from apply_delta(one.key, write.delta)
"""
_RELEASE = " WHERE id = ? AND holder_id = ? AND holder_kind = ? AND state = 'reserved'\"\n)\n_RESERVE"

_IN_THE_EXECUTOR = (
    _planted(
        "two drivers without a lock",
        EXECUTOR,
        "        with self._calls.enter(key) as call:\n",
        "        locks = KeyLocks()\n        with self._calls.enter(key) as call:\n",
        "await self._locks.acquire(key, wait=wait)",
        "await locks.acquire(key, wait=wait)",
        "self._locks.release(key)",
        "locks.release(key)",
    ),
    _planted(
        "a cancelled driver keeps its lock",
        EXECUTOR,
        "                finally:\n                    self._locks.release(key)\n",
        "                except Exception:\n                    self._locks.release(key)\n                    raise\n"
        "                else:\n                    self._locks.release(key)\n",
    ),
    _planted(
        "stale snapshot",
        EXECUTOR,
        "        self._paused_until_s = -1.0\n\n    def observe",
        "        self._paused_until_s = -1.0\n        self._seen: dict[ActionKey, Checkpoint | None] = {}\n"
        "\n    def observe",
        "_drive_held(self.leases, key, only_if_due=only_if_due)\n        checkpoint = await self.store.load(key)\n",
        "_drive_held(self.leases, key, only_if_due=only_if_due)\n"
        "        checkpoint = self._seen.setdefault(key, await self.store.load(key))\n",
    ),
    _planted(
        "lost race taken up again",
        EXECUTOR,
        "            return DriveResult(Outcome.SUPERSEDED, key, error=error)\n",
        "            return await self._drive(key, only_if_due=only_if_due)\n",
    ),
    _planted(
        "told before it is committed",
        EXECUTOR,
        "                saved = await save(write)\n",
        "                self.tell(event, write.checkpoint)\n                saved = await save(write)\n",
        "        self.tell(event, following)\n        self._tell_children(write.delta)\n",
        "        self._tell_children(write.delta)\n",
    ),
    _planted("lost notes", EXECUTOR, "event.value, notes, delta, cancel)", "event.value, (), delta, cancel)"),
    _planted("lost coins", EXECUTOR, "event.value, notes, delta, cancel)", "event.value, notes, EMPTY_DELTA, cancel)"),
    _planted(
        "what cannot be understood is failed",
        EXECUTOR,
        "                status=Status.QUARANTINED,\n",
        "                status=Status.FAILED,\n",
        "            try:\n                await self.store.save(",
        "            try:\n                await self.store.finish(",
    ),
    _planted(
        "release on time-out",
        STEP,
        "        failure = Failure(known,",
        "        if isinstance(known, TransientError):\n            return Decision(Failed(known))\n"
        "        failure = Failure(known,",
    ),
    _planted(
        "every error is a refusal", STEP, "    except RejectedError as error:\n", "    except Exception as error:\n"
    ),
    _planted(
        "swallowed cancellation",
        STEP,
        "    return task is None or bool(task.cancelling())\n",
        "    return task is None\n",
    ),
    _planted("cancelled though the peer refused", STEP, "        answer = None\n", '        answer = Failed("no")\n'),
    _planted(
        "retry without a wait",
        STEP,
        "Park(action, wake_after=_delay(known, checkpoint, policy), error=known)",
        "Park(action, wake_after=timedelta(0), error=known)",
    ),
    _planted("secret in an error", STEP, 'f"an unexpected {name}{place}")', "str(error))"),
    _planted(
        "wake time lost", SUCCESSOR, "encode=encode, wake_at=wake_at, error=reason", "encode=encode, error=reason"
    ),
    _planted("attempts start again", SUCCESSOR, "checkpoint.attempts + 1 if", "1 if"),
    _planted(
        "attempts never start again",
        SUCCESSOR,
        "if decision.is_failure else 0",
        "if decision.is_failure else checkpoint.attempts",
    ),
    _planted("version kept", SUCCESSOR, "        checkpoint.version + 1,\n", "        checkpoint.version,\n"),
    _planted(
        "schema version of a state that this code did not write",
        SUCCESSOR,
        "schema_version, state, phase = checkpoint.schema_version,",
        "schema_version, state, phase = kind.schema_version,",
    ),
)

_IN_THE_MEMORY_STORE = (
    _planted(
        "unversioned update", MEMORY, "if record is None or record.version != expected or", "if record is None or"
    ),
    _planted(
        "terminal overwritten",
        MEMORY,
        "record.version != expected or record.status.is_terminal:",
        "record.version != expected:",
    ),
    _planted(
        "insert on save",
        MEMORY,
        "        if record is None or record.version",
        "        if record is None:\n            record = Record(replace(checkpoint, version=expected), ())\n"
        "            tables.insert(record)\n        if record.version",
        "import Tables, check_times",
        "import Record, Tables, check_times",
    ),
    _planted(
        "coins before the version",
        MEMORY,
        _MEMORY_CHECK,
        "        if record is None:\n"
        "            raise VersionConflictError(checkpoint.kind, checkpoint.id, expected)\n",
        "        is_moving = status is not",
        f"{_MEMORY_CHECK}        is_moving = status is not",
    ),
    _planted(
        "released at every write",
        MEMORY,
        "            if status.is_terminal:\n                unit.release_all(record.key)\n",
        "            unit.release_all(record.key)\n",
    ),
    _planted(
        "a save forgets the wish to cancel",
        MEMORY,
        "        if write.cancel is not None:\n            record.cancel = write.cancel\n",
        "        record.cancel = write.cancel or CancelState.NONE\n",
    ),
    _planted(
        "release of another's coin",
        UNIT,
        "            if coin.holder != key:\n                raise InvariantError(\n"
        '                    f"{key} would release',
        "            if coin.holder is None:\n                raise InvariantError(\n"
        '                    f"{key} would release',
    ),
    _planted(
        "theft of a reservation",
        UNIT,
        "elif coin.state is CoinState.SPENT or coin.holder != key:",
        "elif coin.state is CoinState.SPENT:",
        "            if coin.state is CoinState.SPENDABLE:\n",
        "            if coin.state is not CoinState.SPENT:\n",
    ),
    _planted(
        "a spent coin comes back",
        UNIT,
        "            if coin.state is not CoinState.RESERVED:\n                continue\n",
        "            if coin.state is CoinState.SPENDABLE:\n                continue\n",
    ),
    _planted("counter set back", UNIT, "max(known, value)", "value"),
)

_IN_THE_SQLITE_STORE = (
    _planted("unversioned update", ACTIONS, "if version != write.expected_version or ended_at", "if ended_at"),
    _planted(
        "terminal overwritten",
        ACTIONS,
        "version != write.expected_version or ended_at is not None:",
        "version != write.expected_version:",
    ),
    _planted(
        "insert on save",
        ACTIONS,
        "        if not reply.rows:\n            raise self._conflict()\n",
        "        if not reply.rows:\n            late = replace(checkpoint, version=self._write.expected_version)\n"
        "            yield from _insert(NewAction(late, EMPTY_DELTA), True)\n"
        "            reply = yield (_STANDING_OF, (checkpoint.kind, checkpoint.id))\n",
    ),
    _planted("coins before the version", ACTIONS, _SQLITE_CHECK + _SQLITE_DELTA, _SQLITE_DELTA + _SQLITE_CHECK),
    _planted(
        "released at every write",
        ACTIONS,
        "        if one.status.is_terminal:\n            yield release_all(one.key)\n",
        "        yield release_all(one.key)\n        if one.status.is_terminal:\n",
    ),
    _planted("released at every packed write", PACK, "        if moved and move is Move.END:\n", "        if moved:\n"),
    _planted("an end among many frees no coins", PACK, "execute(release_statement(len(part)), ", "len("),
    _planted("ends are counted once", PACK, "(kind, status, count))", "(kind, status, 1))"),
    _planted("no version check among many", PACK, " AND a.version = new.column4", " AND new.column4 >= 0"),
    _planted("many are believed to stand", PACK, ".rowcount == len(part):", ".rowcount >= 0:"),
    _planted(
        "two writers of one action in a pack",
        PACK,
        "{one.row: one for one in writes}.values()",
        "writes",
    ),
    _planted(
        "a wish to cancel is written over",
        PACK,
        " AND a.cancel <> 'requested'",
        "",
    ),
    _planted("many that exist are told as new", STARTS, ".rowcount == len(part):", ".rowcount >= 0:"),
    _planted("many may go back in time", PACK, " AND a.updated_at <= new.column5", ""),
    _planted(
        "a save forgets the wish to cancel",
        ACTIONS,
        "        if write.cancel is not None:\n            cancel = write.cancel.value\n",
        "        if True:\n            cancel = (write.cancel or CancelState.NONE).value\n",
    ),
    _planted("wall clock set back", ACTIONS, "at = max(self.at, updated_at)", "at = self.at"),
    _planted(
        "release of another's coin",
        DELTA,
        _RELEASE,
        _RELEASE.replace("holder_id = ? AND holder_kind = ?", "(holder_id = ? OR holder_kind = ? OR 1)"),
    ),
    _planted(
        "theft of a reservation", DELTA, "WHERE id = ? AND state = 'spendable'", "WHERE id = ? AND state <> 'spent'"
    ),
    _planted("a spent coin comes back", DELTA, _RELEASE, _RELEASE.replace("= 'reserved'", "<> 'spendable'")),
    _planted("counter set back", DELTA, "max(next, excluded.next)", "excluded.next"),
    _planted(
        "a neighbour's failure",
        BATCH,
        "                except WalletActionError as error:\n                    unit.error = error\n",
        "                except WalletActionError:\n                    raise\n",
    ),
)

PLANTED = tuple(chain(_IN_THE_EXECUTOR, _IN_THE_MEMORY_STORE, _IN_THE_SQLITE_STORE))
