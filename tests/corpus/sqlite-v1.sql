-- A file of schema version 1, as the code before version 2 wrote it. Times are of 2030.
PRAGMA application_id = 1463894868;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
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
INSERT INTO "wa_actions" VALUES(1,'job','parked',2,1,'parked','sent',1893459600000000,0,0,1893456000000000,1893456000000000,NULL,NULL,'none',3,NULL,NULL,NULL,NULL,NULL,NULL,'{"amount":1,"name":"parked","phase":{"note":"dispatched","tag":"sent","token":""}}');
INSERT INTO "wa_actions" VALUES(2,'job','idle',1,1,'parked','open',NULL,0,0,1893456000000000,1893456000000000,NULL,NULL,'none',5,NULL,NULL,NULL,NULL,NULL,NULL,'{"amount":1,"name":"idle","phase":{"tag":"open"}}');
INSERT INTO "wa_actions" VALUES(3,'job','done',1,1,'done','open',NULL,0,0,1893456000000000,1893456000000000,1893456000000000,1893456000000000,'none',7,NULL,NULL,NULL,NULL,NULL,'{"amount":1,"token":""}','{"amount":1,"name":"done","phase":{"tag":"open"}}');
INSERT INTO "wa_actions" VALUES(4,'job','failed',1,1,'failed','open',NULL,0,0,1893456000000000,1893456000000000,1893456000000000,1893456000000000,'none',9,NULL,NULL,NULL,'Failed','given up',NULL,'{"amount":1,"name":"failed","phase":{"tag":"open"}}');
INSERT INTO "wa_actions" VALUES(5,'job','stuck',1,1,'stuck','open',NULL,1,0,1893456000000000,1893456000000000,NULL,NULL,'none',11,NULL,NULL,NULL,'InvariantError','books',NULL,'{"amount":1,"name":"stuck","phase":{"tag":"open"}}');
INSERT INTO "wa_actions" VALUES(6,'job','running',0,1,'running','open',NULL,0,0,1893456000000000,1893456000000000,NULL,NULL,'requested',12,NULL,NULL,NULL,NULL,NULL,NULL,'{"amount":1,"name":"running","phase":{"tag":"open"}}');
INSERT INTO "wa_actions" VALUES(7,'job','paused',1,1,'paused','open',NULL,0,0,1893456000000000,1893456000000000,NULL,NULL,'none',14,NULL,NULL,NULL,NULL,NULL,NULL,'{"amount":1,"name":"paused","phase":{"tag":"open"}}');
CREATE TABLE wa_clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at INTEGER NOT NULL
) STRICT;
INSERT INTO "wa_clock" VALUES(1,1893456000000000);
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
INSERT INTO "wa_coins" VALUES('c1','bank','sat',64,'reserved','job','parked','payload-1');
INSERT INTO "wa_coins" VALUES('c2','bank','sat',8,'spendable',NULL,NULL,'payload-2');
INSERT INTO "wa_coins" VALUES('c3','bank','sat',2,'reserved','job','running','payload-3');
CREATE TABLE wa_counters (
    name TEXT NOT NULL PRIMARY KEY,
    next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "wa_counters" VALUES('k',7);
CREATE TABLE wa_ended (
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (kind, status)
) STRICT, WITHOUT ROWID;
INSERT INTO "wa_ended" VALUES('job','done',1);
INSERT INTO "wa_ended" VALUES('job','failed',1);
CREATE TABLE wa_facts (
    row INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    body TEXT NOT NULL,
    action_kind TEXT NOT NULL,
    action_id TEXT NOT NULL,
    UNIQUE (kind, key)
) STRICT;
INSERT INTO "wa_facts" VALUES(1,'paid','x','{"a":1}','job','done');
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
INSERT INTO "wa_history" VALUES(1,1,NULL,0,1893456000000000,'start','running','open',0,NULL,NULL,NULL);
INSERT INTO "wa_history" VALUES(2,1,1,1,1893456000000000,'next','running','sent',0,NULL,NULL,'["sent it"]');
INSERT INTO "wa_history" VALUES(3,1,2,2,1893456000000000,'park','parked','sent',0,NULL,NULL,NULL);
INSERT INTO "wa_history" VALUES(4,2,NULL,0,1893456000000000,'start','running','open',0,NULL,NULL,NULL);
INSERT INTO "wa_history" VALUES(5,2,4,1,1893456000000000,'park','parked','open',0,NULL,NULL,NULL);
INSERT INTO "wa_history" VALUES(6,3,NULL,0,1893456000000000,'start','running','open',0,NULL,NULL,NULL);
INSERT INTO "wa_history" VALUES(7,3,6,1,1893456000000000,'done','done','open',0,NULL,NULL,NULL);
INSERT INTO "wa_history" VALUES(8,4,NULL,0,1893456000000000,'start','running','open',0,NULL,NULL,NULL);
INSERT INTO "wa_history" VALUES(9,4,8,1,1893456000000000,'fail','failed','open',0,'Failed','given up',NULL);
INSERT INTO "wa_history" VALUES(10,5,NULL,0,1893456000000000,'start','running','open',0,NULL,NULL,NULL);
INSERT INTO "wa_history" VALUES(11,5,10,1,1893456000000000,'stuck','stuck','open',1,'InvariantError','books',NULL);
INSERT INTO "wa_history" VALUES(12,6,NULL,0,1893456000000000,'start','running','open',0,NULL,NULL,NULL);
INSERT INTO "wa_history" VALUES(13,7,NULL,0,1893456000000000,'start','running','open',0,NULL,NULL,NULL);
INSERT INTO "wa_history" VALUES(14,7,13,1,1893456000000000,'pause','paused','open',0,NULL,NULL,NULL);
CREATE TABLE wa_paused_kinds (
    kind TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
INSERT INTO "wa_paused_kinds" VALUES('chore');
CREATE INDEX wa_actions_open ON wa_actions (status, wake_at, row, kind) WHERE ended_at IS NULL;
CREATE INDEX wa_actions_prunable ON wa_actions (prunable_at) WHERE prunable_at IS NOT NULL;
CREATE INDEX wa_coins_unspent ON wa_coins (account, unit, state, id, amount) WHERE state <> 'spent';
CREATE INDEX wa_coins_reserved ON wa_coins (holder_id, holder_kind, id) WHERE state = 'reserved';
CREATE INDEX wa_coins_spent ON wa_coins (holder_id, holder_kind, id) WHERE state = 'spent';
COMMIT;
