# ruff: noqa: S608 - what is put together are constants of this package; values are always parameters
"""The statements by which a claim takes what is due: one round trip, and one plan for all values.

What nobody owns stands in lanes, one for each kind and tenant, in an index. The statement walks along the lanes, one
seek for each, however much is in it, locks the first of those that have something due, and takes of all that it has
locked as much as there is room for: first what has lapsed, then, where there are more lanes than it walks, what has
been due longest for half of the rest, then the first of each lane, then whatever else has been due longest.

Where there are more lanes than it walks, and there was room for all that was due the last time, no turns have to be
taken: a shorter statement takes what has been due longest, and tells whether there was room again.

To plan it takes as long as to run it. So the parameters are hidden from the planner in `given`: a plan for these very
values seems no better to it than one for all values, which it makes once a connection, whatever its settings are. And
whatever may be many has a limit that it sees, or it would take the statement for a long one, worth compiling.
"""

from __future__ import annotations

from collections.abc import Mapping

from wallet_actions_storage.postgres.rows import ACTION_COLUMNS

MOST_LANES = 24
MOST_AT_ONCE = 1000


def _columns(table: str) -> str:
    return ", ".join(f"{table}.{name}" for name in ACTION_COLUMNS.split(", "))


def _lane_columns() -> str:
    lane = {"kind": "walked.kind", "tenant": "walked.tenant"}
    return ", ".join(lane.get(name, "NULL") for name in ACTION_COLUMNS.split(", "))


_GIVEN = (
    "SELECT $3::bigint AS now, $4::bigint AS longest, $5::text AS owner, $6::bigint AS most, $10::bigint AS until,"
    " $13::text AS writer, $14::bigint AS token, $15::bigint AS next_token,"
    " $1::text[] AS kinds, $2::bigint[] AS newest, $11::bigint[] AS rates, $12::bigint[] AS rooms,"
    " $7::text[] AS stretches, $8::text[] AS low, $9::text[] AS high"
)
_NOW, _LONGEST, _OWNER = "(SELECT now FROM given)", "(SELECT longest FROM given)", "(SELECT owner FROM given)"
_MOST, _UNTIL, _WRITER = "(SELECT most FROM given)", "(SELECT until FROM given)", "(SELECT writer FROM given)"
_DUE = "(CASE a.status WHEN 'running' THEN a.created_at ELSE a.wake_at END)"
_FREE = (
    "a.owner IS NULL AND a.ended_at IS NULL"
    " AND (a.status = 'running' OR (a.status = 'parked' AND a.wake_at IS NOT NULL))"
)
_KNOWN = (
    "SELECT kind, newest, rate, room FROM unnest((SELECT kinds FROM given), (SELECT newest FROM given),"
    " (SELECT rates FROM given), (SELECT rooms FROM given)) AS kinds (kind, newest, rate, room)"
)
_IS_OPEN = "kind NOT IN (SELECT kind FROM {schema}.wa_paused_kinds)"


def _first(query: str, order: str, count: str) -> str:
    """The first rows of a query, in order; they are locked, and those that are locked by others passed over."""
    few = f"{query} ORDER BY {order} LIMIT {MOST_AT_ONCE} FOR UPDATE OF a SKIP LOCKED"
    return f"SELECT * FROM ({few}) AS few LIMIT {count}"


_OPEN = (
    "SELECT a.kind, a.id, a.wake_at, a.row FROM {schema}.wa_actions AS a JOIN known ON a.kind = known.kind"
    " WHERE a.schema_version <= known.newest AND"
)
_LEASED = f"{_OPEN} a.owner IS NOT NULL AND a.owner <> {_OWNER}"
_LEFT = f"(a.status = 'running' OR (a.status = 'parked' AND a.wake_at <= {_NOW}))"
_LANE = f"SELECT a.tenant, {_DUE} AS due FROM {{schema}}.wa_actions AS a WHERE {_FREE} AND a.kind = stretch.kind"
_NEXT = f"ORDER BY a.kind, a.tenant, {_DUE}, a.row LIMIT 1"
_WALK = (
    f"WITH RECURSIVE lane AS (({_LANE} AND a.tenant >= stretch.low {_NEXT}) UNION ALL"
    f" SELECT further.* FROM lane CROSS JOIN LATERAL ({_LANE} AND a.tenant > lane.tenant {_NEXT}) AS further)"
    f" SELECT tenant, due FROM lane WHERE stretch.high IS NULL OR tenant <= stretch.high LIMIT {MOST_LANES + 1}"
)
_HEAD = _first(
    f"SELECT a.kind, a.id, {_DUE} AS nth FROM {{schema}}.wa_actions AS a WHERE {_FREE} AND a.kind = lane.kind"
    f" AND a.tenant = lane.tenant AND {_DUE} <= lane.latest AND (a.status = 'running' OR a.wake_at <= lane.now)"
    " AND a.schema_version <= lane.newest",
    f"{_DUE}, a.row",
    "lane.count",
)
_IF_CUT = "a.owner IS NULL AND (SELECT is_cut FROM cut) = 1"
_FOUND = {
    "known": f"{_KNOWN} WHERE {_IS_OPEN}",
    # One scan for each sort of lease: of three conditions in one, the planner makes what passes over all rows.
    "late": _first(f"{_LEASED} AND a.lease_until <= {_NOW} AND {_LEFT}", "a.lease_until", _MOST),
    "strange": _first(f"{_LEASED} AND a.lease_until > {_LONGEST} AND {_LEFT}", "a.lease_until", _MOST),
    "endless": _first(f"{_LEASED} AND a.lease_until IS NULL AND {_LEFT}", "a.lease_until", _MOST),
    # What was started by a clock that was set back since is due all the same (L-B5).
    "clock": f"SELECT greatest({_NOW}, max(at)) AS latest FROM {{schema}}.wa_writers",
    "stretch": (
        "SELECT kind, low, high, place FROM"
        " unnest((SELECT stretches FROM given), (SELECT low FROM given), (SELECT high FROM given)) WITH ORDINALITY"
        f" AS stretches (kind, low, high, place) WHERE {_IS_OPEN}"
    ),
    "walked": (
        f"SELECT stretch.place, stretch.kind, lane.tenant, lane.due FROM stretch CROSS JOIN LATERAL ({_WALK}) AS lane"
        f" LIMIT {MOST_LANES + 1}"
    ),
    "cut": f"SELECT CASE WHEN count(*) > {MOST_LANES} THEN 1 ELSE 0 END AS is_cut FROM walked",
    "turns": (
        f"SELECT walked.kind, tenant, place, newest, latest, {_NOW} AS now FROM walked"
        " JOIN known ON known.kind = walked.kind, clock"
        f" WHERE due <= latest ORDER BY place, tenant LIMIT least({_MOST}, {MOST_LANES})"
    ),
    "lane": (
        f"SELECT turns.*, greatest(1, {_MOST} / (1 + is_cut) / (SELECT count(*) FROM turns)) AS count FROM turns, cut"
    ),
    "heads": (
        "SELECT lane.place, lane.kind, lane.tenant, lane.count, head.id, head.nth"
        f" FROM lane LEFT JOIN LATERAL ({_HEAD}) AS head ON true"
    ),
    "parked": _first(
        f"{_OPEN} a.status = 'parked' AND a.ended_at IS NULL AND a.wake_at <= {_NOW} AND {_IF_CUT}",
        "a.wake_at, a.row",
        f"{_MOST} + 1",
    ),
    "running": _first(
        f"{_OPEN} a.status = 'running' AND a.status <> 'parked' AND a.ended_at IS NULL AND {_IF_CUT}",
        "a.row",
        f"{_MOST} + 1",
    ),
}
_CHOSEN = {
    "lapsed": " UNION ALL ".join(f"SELECT kind, id FROM {part}" for part in ("late", "strange", "endless")),
    "longest": (
        "SELECT kind, id, row_number() OVER (ORDER BY sort, wake_at, row) AS nth FROM"
        " (SELECT 0 AS sort, * FROM parked UNION ALL SELECT 1, * FROM running) AS either"
    ),
    "share": f"SELECT ({_MOST} - least({_MOST}, count(*)) + 1) / 2 AS most FROM lapsed",
    "offers": (
        "SELECT kind, id, 0 AS turn, 0 AS place, '' AS tenant, 0 AS nth FROM lapsed"
        " UNION ALL SELECT kind, id, CASE WHEN nth <= most THEN 1 ELSE 3 END, 0, '', nth FROM longest, share"
        " UNION ALL SELECT kind, id, 2, place, tenant, nth FROM heads WHERE id IS NOT NULL"
    ),
    "once": "SELECT DISTINCT ON (kind, id) * FROM offers ORDER BY kind, id, turn",
    "counted": (
        "SELECT *, count(*) OVER upto AS of_kind, count(*) FILTER (WHERE turn > 0) OVER upto AS added FROM once"
        " WINDOW upto AS (PARTITION BY kind ORDER BY turn, place, tenant, nth ROWS UNBOUNDED PRECEDING)"
    ),
    "chosen": (
        "SELECT counted.kind, counted.id, counted.turn FROM counted JOIN known ON known.kind = counted.kind"
        " WHERE (rate IS NULL OR of_kind <= rate) AND (room IS NULL OR turn = 0 OR added <= room)"
        f" ORDER BY turn, place, tenant, nth LIMIT {_MOST}"
    ),
}
_TAKEN = {
    # Where nothing is to be taken, nothing is written.
    "gate": (
        "UPDATE {schema}.wa_writers AS w SET token = given.next_token, seen = now() FROM given"
        " WHERE w.writer = given.writer AND w.token = given.token AND EXISTS (SELECT FROM chosen) RETURNING 1"
    ),
    "taken": (
        f"UPDATE {{schema}}.wa_actions AS a SET owner = {_OWNER}, lease_until = {_UNTIL}, version = a.version + 1"
        " FROM chosen WHERE a.kind = chosen.kind AND a.id = chosen.id"
        f" AND ({_WRITER} IS NULL OR EXISTS (SELECT FROM gate)) RETURNING {_columns('a')}, chosen.turn"
    ),
}
_SEEN = "SELECT kind, tenant, count AS asked, count(id) AS seen FROM heads GROUP BY kind, tenant, count"


def _with(parts: Mapping[str, str], answer: str) -> str:
    """A statement that answers what was taken, and more; see `TAKE_DUE`."""
    named = ", ".join(f"{name} AS ({query})" for name, query in parts.items())
    none = ", ".join("NULL" for _ in ACTION_COLUMNS.split(", "))
    return (
        f"WITH given AS MATERIALIZED ({_GIVEN}), {named}"
        " SELECT taken.*, NULL::bigint AS place, NULL::bigint AS due, NULL::bigint AS asked, NULL::bigint AS seen,"
        f" NULL::bigint AS latest FROM taken{answer}"
        f" UNION ALL SELECT {none}, (SELECT count(*) FROM chosen), NULL, (SELECT count(*) FROM longest),"
        " NULL, NULL, NULL"
    )


TAKE_DUE = _with(
    {**_FOUND, **_CHOSEN, **_TAKEN, "seen": _SEEN},
    f" UNION ALL SELECT {_lane_columns()}, NULL, place, due, asked, seen, latest FROM clock, walked"
    " LEFT JOIN seen ON seen.kind = walked.kind AND seen.tenant = walked.tenant",
)
"""Takes what one claim may take.

Parameters are the kinds and their newest schema versions, now, the latest end of a right lease, the owner, how many,
the stretches of lanes to walk (kind, first tenant, last tenant or NULL), the end of the lease, how many of each kind
may be taken in all and how many of those that nobody owns (NULL: no limit); and for one that is a transaction by itself
the writer, its token, which it has to have, and the next one (else NULL).

Answers rows of `ACTION_COLUMNS` and six more, of three sorts. What was taken, and its turn: 0 for what had lapsed, 1
for what has been due longest, 2 for the first of a lane, 3 for what has been due longest after that. Each lane that was
walked, without a row: its kind and tenant; the place of its stretch; when its first is due; how many were asked for and
were there, where it was its turn; and the time until which what runs is due. And, without a kind, as a turn how many
were to be taken: all of them were, or none, where the writer's token was another one; and as a due time how many of
what has been due longest there were, none where all lanes were walked.
"""

TAKE_LONGEST = _with(
    {
        **{name: query for name, query in _FOUND.items() if name in ("known", "late", "strange", "endless")},
        "cut": "SELECT 1 AS is_cut",
        "parked": _FOUND["parked"],
        "running": _FOUND["running"],
        **{name: query for name, query in _CHOSEN.items() if name in ("lapsed", "longest")},
        "chosen": (
            "SELECT * FROM (SELECT kind, id, 0 AS turn, 0 AS nth FROM lapsed"
            f" UNION ALL SELECT kind, id, 3, nth FROM longest) AS either ORDER BY turn, nth LIMIT {_MOST}"
        ),
        **_TAKEN,
    },
    "",
)
"""The same without turns and limits, of what has been due longest. Parameters and answers are those of `TAKE_DUE`."""

TAKE_HEADS = (
    "WITH heads AS (SELECT head.kind, head.id FROM (SELECT lanes.*, $3::bigint AS now, $4::bigint AS latest"
    " FROM unnest($1::text[], $2::text[], $5::bigint[], $6::bigint[])"
    f" AS lanes (kind, tenant, newest, count)) AS lane CROSS JOIN LATERAL ({_HEAD}) AS head)"
    " UPDATE {schema}.wa_actions AS a SET owner = $7, lease_until = $8, version = a.version + 1 FROM heads"
    f" WHERE a.kind = heads.kind AND a.id = heads.id RETURNING {_columns('a')}"
)
"""Takes more of lanes: kinds, tenants, now, the time until which what runs is due, versions, how many of each; the
owner and the end of the lease."""
