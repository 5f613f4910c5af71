-- Several workers on one file: on whose behalf an action is, who is at work, and what was spent of each kind's rate.
-- The index by lane, which only a shared file needs, is made when one is opened; see docs/adr/0011-leases-and-fences.md.

ALTER TABLE wa_actions ADD COLUMN tenant TEXT NOT NULL DEFAULT '';

-- Empty where nobody claims. A running action's writes touch none of its columns.
CREATE INDEX wa_actions_owned ON wa_actions (owner, lease_until, kind, row) WHERE owner IS NOT NULL;

-- Up to which row of the history `at` is the latest; what came after tells its own time.
ALTER TABLE wa_clock ADD COLUMN history INTEGER NOT NULL DEFAULT 0;
UPDATE wa_clock SET history = coalesce((SELECT max(row) FROM wa_history), 0);

CREATE TABLE wa_workers (
    owner TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The time since which a kind's allowance accrues.
CREATE TABLE wa_spent (
    kind TEXT NOT NULL PRIMARY KEY,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
