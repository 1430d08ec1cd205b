-- A start reads what it needs by an index, however many accounts and rows of the ledger there are:
-- docs/decisions/2026-11-30-starts.md has the figures.
--
-- Outside a transaction, so that the index is built without locking a table in use.
--
-- locks: nothing

-- +goose NO TRANSACTION
-- +goose Up

-- The kinds and parameters of stored hashes, as they were counted last. A replica that starts reads this row: to count
-- takes a second, and the replicas need not all do it.
CREATE TABLE IF NOT EXISTS hash_settings (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- The text before the salt, and how many of the sampled hashes begin with it: two arrays of the same length.
    settings text[] NOT NULL,
    weights bigint[] NOT NULL,
    counted_at timestamptz NOT NULL
);

-- A build that was interrupted leaves an invalid index behind.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_index WHERE indexrelid = to_regclass('revocations_created_at') AND NOT indisvalid
    ) THEN
        DROP INDEX revocations_created_at;
    END IF;
END
$$;
-- +goose StatementEnd

-- The build waits for every older snapshot, a running backup's too, and blocks nobody meanwhile: it may take its time.
SET lock_timeout = 0;

-- Of a month of rows a start needs those of the last minutes.
CREATE INDEX CONCURRENTLY IF NOT EXISTS revocations_created_at ON revocations (created_at) INCLUDE (seq);

RESET lock_timeout;

-- +goose Down
DROP INDEX IF EXISTS revocations_created_at;
DROP TABLE IF EXISTS hash_settings;
