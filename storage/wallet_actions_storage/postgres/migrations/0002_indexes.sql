-- What somebody owns is in one index beside its key: it is little, is read by passing over it, and changes most often.
-- What nobody owns is in the others; so a claim writes two index entries a row. See docs/scale.md.

DROP INDEX {schema}.wa_actions_row;
DROP INDEX {schema}.wa_actions_wakes;
DROP INDEX {schema}.wa_actions_active;
DROP INDEX {schema}.wa_actions_leases;
DROP INDEX {schema}.wa_actions_owners;
CREATE INDEX wa_actions_row ON {schema}.wa_actions (row) WHERE owner IS NULL;
CREATE INDEX wa_actions_leases ON {schema}.wa_actions (lease_until, owner) WHERE owner IS NOT NULL;
CREATE INDEX wa_actions_wakes ON {schema}.wa_actions (wake_at, row)
    WHERE status = 'parked' AND ended_at IS NULL AND owner IS NULL;
CREATE INDEX wa_actions_active ON {schema}.wa_actions (status, row)
    WHERE status <> 'parked' AND ended_at IS NULL AND owner IS NULL;
