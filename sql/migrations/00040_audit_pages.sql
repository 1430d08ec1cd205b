-- A page of one account's events, newest first and also from the middle, must cost the same whether the table has a
-- thousand rows or ten million.
--
-- Outside a transaction, so that the index is built without locking a table in use.
--
-- locks: nothing

-- +goose NO TRANSACTION
-- +goose Up
-- A build that was interrupted leaves an invalid index behind.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_index WHERE indexrelid = to_regclass('audit_events_user_time') AND NOT indisvalid
    ) THEN
        DROP INDEX audit_events_user_time;
    END IF;
END
$$;
-- +goose StatementEnd

-- The build waits for every older snapshot, a running backup's too, and blocks
-- nobody meanwhile: it may take its time.
SET lock_timeout = 0;

CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_events_user_time ON audit_events (user_id, created_at, id);

RESET lock_timeout;

-- +goose Down
DROP INDEX IF EXISTS audit_events_user_time;
