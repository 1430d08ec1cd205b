-- The audit trail gets an id of each call that only the service makes: trace_id is the
-- client's to choose, and can be made equal to somebody else's. And a row may stand for
-- several events of one kind.
--
-- Both columns have a constant default, so that no row is written: the table is locked
-- for a moment. Versions from before leave them at their defaults.
--
-- locks: nothing

-- +goose Up
ALTER TABLE audit_events
    -- 32 hex digits, random, another for each call; the log has it too. Empty: written
    -- by an earlier version.
    ADD COLUMN call_id text NOT NULL DEFAULT '',
    -- How often it happened: what repeats within a minute is counted here. The other
    -- columns are the first one's.
    ADD COLUMN times integer NOT NULL DEFAULT 1;

-- +goose Down
ALTER TABLE audit_events DROP COLUMN times, DROP COLUMN call_id;
