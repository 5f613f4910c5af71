-- Times are microseconds since 1970, UTC. Texts are compared byte by byte.
-- The indexes are partial, and their conditions use columns that a running action's writes do not touch, so that such a
-- write moves no index entry. See docs/adr/0003-sqlite-schema.md.

CREATE TABLE wa_actions (
    row INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    status TEXT NOT NULL,
    phase TEXT NOT NULL,
    wake_at INTEGER,
    attempts INTEGER NOT NULL,
    faults INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    ended_at INTEGER,              -- NULL until it has ended
    prunable_at INTEGER,           -- as ended_at, NULL again once pruned
    cancel TEXT NOT NULL,
    last_history INTEGER,          -- the newest row of wa_history
    owner TEXT,
    lease_until INTEGER,
    traceparent TEXT,
    error_type TEXT,
    error_message TEXT,
    result TEXT,
    state TEXT,
    UNIQUE (kind, id)
) STRICT;

CREATE INDEX wa_actions_open ON wa_actions (status, wake_at, row, kind) WHERE ended_at IS NULL;
CREATE INDEX wa_actions_prunable ON wa_actions (prunable_at) WHERE prunable_at IS NOT NULL;

-- Only ever appended to and pruned. Each row points at the one before of the same action.
CREATE TABLE wa_history (
    row INTEGER PRIMARY KEY,
    action INTEGER NOT NULL,       -- wa_actions.row
    previous INTEGER,              -- wa_history.row
    version INTEGER NOT NULL,
    at INTEGER NOT NULL,
    event TEXT NOT NULL,
    status TEXT NOT NULL,
    phase TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    error_type TEXT,
    error_message TEXT,
    notes TEXT                     -- a JSON array, NULL for none
) STRICT;

CREATE TABLE wa_coins (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    unit TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    state TEXT NOT NULL,
    holder_kind TEXT,
    holder_id TEXT,
    payload TEXT NOT NULL,
    CHECK (state = 'spendable' OR state = 'reserved' OR state = 'spent'),
    CHECK ((state = 'spendable') = (holder_id IS NULL)),
    CHECK ((holder_kind IS NULL) = (holder_id IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX wa_coins_unspent ON wa_coins (account, unit, state, id, amount) WHERE state <> 'spent';
CREATE INDEX wa_coins_reserved ON wa_coins (holder_id, holder_kind, id) WHERE state = 'reserved';
CREATE INDEX wa_coins_spent ON wa_coins (holder_id, holder_kind, id) WHERE state = 'spent';

CREATE TABLE wa_facts (
    row INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    body TEXT NOT NULL,
    action_kind TEXT NOT NULL,
    action_id TEXT NOT NULL,
    UNIQUE (kind, key)
) STRICT;

CREATE TABLE wa_counters (
    name TEXT NOT NULL PRIMARY KEY,
    next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE wa_paused_kinds (
    kind TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- How many have ended, so that nobody has to pass over them to count.
CREATE TABLE wa_ended (
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (kind, status)
) STRICT, WITHOUT ROWID;

-- One row: the latest time at which any action was written.
CREATE TABLE wa_clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at INTEGER NOT NULL
) STRICT;
