# ruff: noqa: ISC004, S608 - what is put together are constants and a schema's name that was checked; values are parameters
"""The statements that write actions, for one schema.

Each takes arrays, one element an action, and so writes one as well as five hundred. They are joined to the rows by the
whole primary key, in the order of the keys, so that two writers lock in one order.
"""

from __future__ import annotations

from functools import cache

_WRITTEN = (
    ("kind", "text"),
    ("id", "text"),
    ("expected", "bigint"),
    ("schema_version", "bigint"),
    ("state", "text"),
    ("phase", "text"),
    ("status", "text"),
    ("wake_at", "bigint"),
    ("attempts", "bigint"),
    ("faults", "bigint"),
    ("error_type", "text"),
    ("error_message", "text"),
    ("result", "text"),
    ("at", "bigint"),
    ("cancel", "text"),
    ("event", "text"),
    ("notes", "text"),
)
_STARTED = (
    ("kind", "text"),
    ("id", "text"),
    ("schema_version", "bigint"),
    ("state", "text"),
    ("phase", "text"),
    ("status", "text"),
    ("created_at", "bigint"),
    ("updated_at", "bigint"),
    ("wake_at", "bigint"),
    ("attempts", "bigint"),
    ("faults", "bigint"),
    ("error_type", "text"),
    ("error_message", "text"),
    ("cancel", "text"),
    ("owner", "text"),
    ("lease_until", "bigint"),
    ("traceparent", "text"),
    ("result", "text"),
    ("tenant", "text"),
    ("ended_at", "bigint"),
    ("notes", "text"),
)
_PAST = (
    "INSERT INTO {schema}.wa_history"
    " (kind, id, version, at, event, status, phase, attempts, error_type, error_message, notes)"
)


def _unnest(columns: tuple[tuple[str, str], ...]) -> str:
    arrays = ", ".join(f"${place}::{type_}[]" for place, (_, type_) in enumerate(columns, start=1))
    names = ", ".join(name for name, _ in columns)
    return f"given AS (SELECT * FROM unnest({arrays}) WITH ORDINALITY AS given ({names}, place))"


class Sql:
    """The statements of one schema.

    Attributes:
        go_on: writes the next checkpoints of actions that do not end; the parameters are those of `written` and the
            batch's token. Answers the place of each that was at its expected version, and its cancel state.
        end: the same for actions that end, whose coins it frees.
        go_on_alone, end_alone: the same as transactions of their own: behind come the writer, its token before and, of
            `end_alone`, a slot of `wa_ended`, where it counts them. They answer no row at all where the writer has been
            shut out.
        start: inserts actions; parameters as in `_STARTED`, and the token. Answers place and row of the new ones.
    """

    def __init__(self, schema: str, has_history: bool) -> None:
        self.schema = schema
        self.go_on = self._write(has_history, is_end=False, is_alone=False)
        self.go_on_alone = self._write(has_history, is_end=False, is_alone=True)
        self.end = self._write(has_history, is_end=True, is_alone=False)
        self.end_alone = self._write(has_history, is_end=True, is_alone=True)
        self.start = self._start(has_history)

    def _write(self, has_history: bool, *, is_end: bool, is_alone: bool) -> str:
        schema, token = self.schema, len(_WRITTEN) + 1
        writer = token + 1
        parts = [_unnest(_WRITTEN)]
        if is_alone:
            parts.insert(
                0,
                f"gate AS (SELECT writer FROM {schema}.wa_writers WHERE writer = ${writer} AND token = ${writer + 1}"
                " FOR UPDATE)",
            )
        ended = (
            ", ended_at = greatest(a.updated_at, given.at), prunable_at = greatest(a.updated_at, given.at)"
            if is_end
            else ""
        )
        parts.append(
            f"done AS (UPDATE {schema}.wa_actions AS a SET version = given.expected + 1,"
            " schema_version = given.schema_version, state = given.state, phase = given.phase, status = given.status,"
            " wake_at = given.wake_at, attempts = given.attempts, faults = given.faults,"
            " error_type = given.error_type, error_message = given.error_message, result = given.result,"
            " updated_at = greatest(a.updated_at, given.at), cancel = coalesce(given.cancel, a.cancel),"
            " owner = CASE WHEN given.status = 'running' THEN a.owner END,"
            " lease_until = CASE WHEN given.status = 'running' THEN a.lease_until END,"
            f" wrote = ${token}{ended} FROM given{', gate' if is_alone else ''}"
            " WHERE a.kind = given.kind AND a.id = given.id AND a.version = given.expected AND a.ended_at IS NULL"
            " RETURNING given.place, a.kind, a.id, a.version, a.updated_at, given.event, given.status, given.phase,"
            " given.attempts, given.error_type, given.error_message, given.notes, a.cancel)"
        )
        if has_history:
            parts.append(
                f"past AS ({_PAST.format(schema=schema)} SELECT kind, id, version, updated_at, event, status, phase,"
                " attempts, error_type, error_message, notes FROM done)"
            )
        if is_end:
            parts.append(
                f"freed AS (UPDATE {schema}.wa_coins AS c SET state = 'spendable', holder_kind = NULL,"
                " holder_id = NULL FROM done WHERE c.holder_id = done.id AND c.holder_kind = done.kind"
                " AND c.state = 'reserved')"
            )
        if not is_alone:
            return f"WITH {', '.join(parts)} SELECT place, cancel FROM done"
        if is_end:
            parts.append(
                f"counted AS (INSERT INTO {schema}.wa_ended AS e (kind, status, slot, count)"
                f" SELECT kind, status, ${writer + 2}::integer, count(*) FROM done GROUP BY kind, status"
                " ORDER BY kind, status"
                " ON CONFLICT (kind, status, slot) DO UPDATE SET count = e.count + excluded.count)"
            )
        parts.append(
            f"noted AS (UPDATE {schema}.wa_writers AS w SET token = ${token},"
            " at = greatest(w.at, (SELECT max(updated_at) FROM done)), seen = now()"
            " FROM gate WHERE w.writer = gate.writer)"
        )
        return f"WITH {', '.join(parts)} SELECT done.place, done.cancel FROM gate LEFT JOIN done ON true"

    def _start(self, has_history: bool) -> str:
        schema, token = self.schema, len(_STARTED) + 1
        columns = ", ".join(name for name, _ in _STARTED if name != "notes")
        parts = [
            _unnest(_STARTED),
            f"new AS (INSERT INTO {schema}.wa_actions ({columns}, version, prunable_at, wrote)"
            f" SELECT {columns}, 0, ended_at, ${token} FROM given ORDER BY place"
            " ON CONFLICT (kind, id) DO NOTHING RETURNING row, kind, id)",
            "started AS (SELECT new.row, given.* FROM given JOIN new ON new.kind = given.kind AND new.id = given.id)",
        ]
        if has_history:
            parts.append(
                f"past AS ({_PAST.format(schema=schema)} SELECT kind, id, 0, updated_at, 'start', status, phase,"
                " attempts, error_type, error_message, notes FROM started)"
            )
        return f"WITH {', '.join(parts)} SELECT place, row FROM started"


@cache
def statements(schema: str, has_history: bool) -> Sql:
    """The statements of a schema."""
    return Sql(schema, has_history)
