-- Lists of accounts go by creation, and by id among those created together: an import
-- can give a million accounts one time, and a page of them must not read all.
--
-- Outside a transaction, so that the index is built without locking a table in use.
--
-- locks: users SHARE UPDATE EXCLUSIVE, builds index users_created_at_id

-- +goose NO TRANSACTION
-- +goose Up
-- A build that was interrupted leaves an invalid index behind.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_index WHERE indexrelid = to_regclass('users_created_at_id') AND NOT indisvalid
    ) THEN
        DROP INDEX users_created_at_id;
    END IF;
END
$$;
-- +goose StatementEnd

-- The build waits for every older snapshot, a running backup's too, and blocks
-- nobody meanwhile: it may take its time.
SET lock_timeout = 0;

CREATE INDEX CONCURRENTLY IF NOT EXISTS users_created_at_id ON users (created_at, id);

RESET lock_timeout;

-- +goose Down
DROP INDEX IF EXISTS users_created_at_id;
