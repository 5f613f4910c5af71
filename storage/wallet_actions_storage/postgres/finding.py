# ruff: noqa: S608 - what is put together are constants of this package; values are always parameters
"""The query by which a claim finds what is due: one round trip, and one plan for all values.

What nobody owns stands in lanes, one for each kind and tenant, in an index. The query walks along the lanes, one seek
for each, however much is in it, and locks the first of those that have something due.
"""

from __future__ import annotations

MOST_LANES = 32

_DUE = "(CASE a.status WHEN 'running' THEN a.created_at ELSE a.wake_at END)"
_FREE = (
    "a.owner IS NULL AND a.ended_at IS NULL"
    " AND (a.status = 'running' OR (a.status = 'parked' AND a.wake_at IS NOT NULL))"
)
_KNOWN = "SELECT kind, newest FROM unnest($1::text[], $2::bigint[]) AS given (kind, newest)"
_IS_OPEN = "kind NOT IN (SELECT kind FROM {schema}.wa_paused_kinds)"
_CHOSEN = (
    "SELECT a.kind, a.id FROM {schema}.wa_actions AS a JOIN known ON a.kind = known.kind"
    " WHERE a.schema_version <= known.newest AND"
)
_LEASED = f"{_CHOSEN} a.owner IS NOT NULL AND a.owner <> $5"
_LEFT = (
    "(a.status = 'running' OR (a.status = 'parked' AND a.wake_at <= $3))"
    " ORDER BY a.lease_until LIMIT $6 FOR UPDATE OF a SKIP LOCKED"
)
_LANE = f"SELECT a.tenant, {_DUE} AS due FROM {{schema}}.wa_actions AS a WHERE {_FREE} AND a.kind = stretch.kind"
_NEXT = f"ORDER BY a.kind, a.tenant, {_DUE}, a.row LIMIT 1"
_WALK = (
    f"WITH RECURSIVE lane AS (({_LANE} AND a.tenant >= stretch.low {_NEXT}) UNION ALL"
    f" SELECT further.* FROM lane CROSS JOIN LATERAL ({_LANE} AND a.tenant > lane.tenant {_NEXT}) AS further)"
    f" SELECT tenant, due FROM lane WHERE stretch.high IS NULL OR tenant <= stretch.high LIMIT {MOST_LANES + 1}"
)
_HEAD = (
    f"SELECT a.kind, a.id FROM {{schema}}.wa_actions AS a WHERE {_FREE} AND a.kind = lane.kind"
    f" AND a.tenant = lane.tenant AND {_DUE} <= lane.latest AND (a.status = 'running' OR a.wake_at <= $3)"
    f" AND a.schema_version <= lane.newest ORDER BY {_DUE}, a.row LIMIT lane.count FOR UPDATE SKIP LOCKED"
)
_IF_CUT = "LIMIT $6 * (SELECT is_cut FROM cut) FOR UPDATE OF a SKIP LOCKED"
_PARTS = {
    "known": f"{_KNOWN} WHERE {_IS_OPEN}",
    # One scan for each sort of lease: of three conditions in one, the planner makes what passes over all rows.
    "late": f"{_LEASED} AND a.lease_until <= $3 AND {_LEFT}",
    "strange": f"{_LEASED} AND a.lease_until > $4 AND {_LEFT}",
    "endless": f"{_LEASED} AND a.lease_until IS NULL AND {_LEFT}",
    # What was started by a clock that was set back since is due all the same (L-B5).
    "clock": "SELECT greatest($3, max(at)) AS latest FROM {schema}.wa_writers",
    "stretch": (
        "SELECT kind, low, high, place FROM unnest($7::text[], $8::text[], $9::text[]) WITH ORDINALITY"
        f" AS given (kind, low, high, place) WHERE {_IS_OPEN}"
    ),
    "walked": (
        f"SELECT stretch.place, stretch.kind, lane.tenant, lane.due FROM stretch CROSS JOIN LATERAL ({_WALK}) AS lane"
        f" LIMIT {MOST_LANES + 1}"
    ),
    "cut": f"SELECT CASE WHEN count(*) > {MOST_LANES} THEN 1 ELSE 0 END AS is_cut FROM walked",
    "turns": (
        "SELECT walked.kind, tenant, place, newest, latest FROM walked JOIN known ON known.kind = walked.kind, clock"
        f" WHERE due <= latest ORDER BY place, tenant LIMIT least($6, {MOST_LANES})"
    ),
    "lane": ("SELECT turns.*, greatest(1, $6 / (1 + is_cut) / (SELECT count(*) FROM turns)) AS count FROM turns, cut"),
    "heads": (
        "SELECT lane.place, lane.kind, lane.tenant, lane.count, head.id"
        f" FROM lane LEFT JOIN LATERAL ({_HEAD}) AS head ON true"
    ),
    "parked": (
        f"{_CHOSEN} a.status = 'parked' AND a.ended_at IS NULL AND a.wake_at <= $3 AND a.owner IS NULL"
        f" ORDER BY a.wake_at, a.row {_IF_CUT}"
    ),
    "running": (
        f"{_CHOSEN} a.status = 'running' AND a.status <> 'parked' AND a.ended_at IS NULL AND a.owner IS NULL"
        f" ORDER BY a.row {_IF_CUT}"
    ),
}
_TOLD = (
    *(f"SELECT 0, 0, kind, id, '', 0 FROM {part}" for part in ("late", "strange", "endless")),
    "SELECT 1, place, kind, tenant, '', due FROM walked",
    *(f"SELECT 2, 0, kind, id, '', 0 FROM {part}" for part in ("parked", "running")),
    "SELECT 3, place, kind, tenant, id, count FROM heads",
    "SELECT 4, 0, '', '', '', latest FROM clock",
)

FIND = (
    f"SELECT * FROM (WITH {', '.join(f'{name} AS ({query})' for name, query in _PARTS.items())}"
    f" {' UNION ALL '.join(_TOLD)}) AS found"
)
"""Finds and locks what one claim may take.

Parameters are the kinds and their newest schema versions, now, the latest end of a right lease, the owner, how many,
and the stretches of lanes to walk: kind, first tenant, last tenant or NULL.

Answers rows of sort, place, kind, text, id and number:
0: what has lapsed, its id the text.
1: each lane that was walked, in the stretch at that place; its tenant the text, and when its first is due.
2: where there are more lanes than were walked, what has been due longest, its id the text.
3: the first of each lane with something due, its tenant the text, and how many were asked for; no id where none is.
4: the time until which what runs is due.
"""

HEADS = (
    "SELECT lane.place, head.kind, head.id FROM (SELECT given.*, $4::bigint AS latest"
    " FROM unnest($1::text[], $2::text[], $5::bigint[], $6::bigint[]) WITH ORDINALITY"
    f" AS given (kind, tenant, newest, count, place)) AS lane CROSS JOIN LATERAL ({_HEAD}) AS head"
)
"""Locks the first of lanes: kinds, tenants, now, the time until which what runs is due, versions, how many of each."""
