-- Letter case: email keeps what was typed, email_lookup holds the form in which
-- addresses are compared (NFC, lower case). It is NULL where an older account
-- holds the value already: such accounts log in with their exact address.
--
-- Outside a transaction, so that the index is built and the rows are filled
-- without locking a table in use; every statement can be run again.
--
-- locks: users ACCESS EXCLUSIVE, adds column email_lookup, empty
-- locks: users SHARE UPDATE EXCLUSIVE, builds index users_email_lookup_key
-- locks: users SHARE ROW EXCLUSIVE, adds trigger zz_latchkey_keep_updated_at
-- locks: users SHARE ROW EXCLUSIVE, adds trigger latchkey_email_lookup_update
-- locks: users SHARE ROW EXCLUSIVE, adds trigger latchkey_email_lookup_insert
-- locks: users ROW EXCLUSIVE, fills email_lookup

-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE users ADD COLUMN IF NOT EXISTS email_lookup text;

-- A build that was interrupted leaves an invalid index behind.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_index WHERE indexrelid = to_regclass('users_email_lookup_key') AND NOT indisvalid
    ) THEN
        DROP INDEX users_email_lookup_key;
    END IF;
END
$$;
-- +goose StatementEnd

-- The build waits for every older snapshot, a running backup's too, and blocks
-- nobody meanwhile: it may take its time.
SET lock_timeout = 0;

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS users_email_lookup_key ON users (email_lookup);

RESET lock_timeout;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_email_lookup(email text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT normalize(lower(normalize(email, NFC)), NFC)
$$;
-- +goose StatementEnd

-- For rows that other programs write. After the row is in, because only an UPDATE
-- of our own can be caught when the value is taken, also by a transaction that has
-- not committed yet: whatever goes wrong here must not fail their insert.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_fill_email_lookup() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    BEGIN
        UPDATE users SET email_lookup = latchkey_email_lookup(NEW.email) WHERE id = NEW.id;
    EXCEPTION WHEN OTHERS THEN
        IF TG_OP = 'UPDATE' THEN -- an inserted row has none yet
            UPDATE users SET email_lookup = NULL WHERE id = NEW.id;
        END IF;
    END;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- Filling the column is no change of the account. Triggers fire in the order of
-- their names: this one undoes what update_users_updated_at did.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_keep_updated_at() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = OLD.updated_at;
    RETURN NEW;
END
$$;
-- +goose StatementEnd

CREATE OR REPLACE TRIGGER zz_latchkey_keep_updated_at BEFORE UPDATE OF email_lookup ON users
    FOR EACH ROW EXECUTE FUNCTION latchkey_keep_updated_at();

-- In this order: a row that is filled when it comes in, and changes its address before
-- the second trigger is there, would keep the value of the first address for ever.
CREATE OR REPLACE TRIGGER latchkey_email_lookup_update AFTER UPDATE OF email ON users
    FOR EACH ROW WHEN (NEW.email IS DISTINCT FROM OLD.email AND NEW.email_lookup IS NOT DISTINCT FROM OLD.email_lookup)
    EXECUTE FUNCTION latchkey_fill_email_lookup();

CREATE OR REPLACE TRIGGER latchkey_email_lookup_insert AFTER INSERT ON users
    FOR EACH ROW WHEN (NEW.email_lookup IS NULL)
    EXECUTE FUNCTION latchkey_fill_email_lookup();

-- The rows that were there before, oldest first, so that of several accounts with
-- one address the oldest holds the value. A commit every 1,000 rows keeps each
-- lock short.
-- +goose StatementBegin
DO $$
DECLARE
    at_time timestamptz := '-infinity';
    at_id uuid := '00000000-0000-0000-0000-000000000000';
    seen record;
BEGIN
    LOOP
        WITH batch AS (
            SELECT id, created_at, latchkey_email_lookup(email) AS lookup
            FROM users WHERE (created_at, id) > (at_time, at_id)
            ORDER BY created_at, id LIMIT 1000
        ), first_of_each AS (
            SELECT DISTINCT ON (lookup) id, lookup FROM batch ORDER BY lookup, created_at, id
        ), filled AS (
            UPDATE users SET email_lookup = f.lookup FROM first_of_each f
            WHERE users.id = f.id AND users.email_lookup IS NULL
                AND NOT EXISTS (SELECT FROM users holder WHERE holder.email_lookup = f.lookup)
        )
        SELECT created_at, id INTO seen FROM batch ORDER BY created_at DESC, id DESC LIMIT 1;
        EXIT WHEN seen.id IS NULL;
        at_time := seen.created_at;
        at_id := seen.id;
        COMMIT;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER IF EXISTS zz_latchkey_keep_updated_at ON users;
DROP TRIGGER IF EXISTS latchkey_email_lookup_update ON users;
DROP TRIGGER IF EXISTS latchkey_email_lookup_insert ON users;
DROP FUNCTION IF EXISTS latchkey_keep_updated_at();
DROP FUNCTION IF EXISTS latchkey_fill_email_lookup();
DROP FUNCTION IF EXISTS latchkey_email_lookup(text);
DROP INDEX IF EXISTS users_email_lookup_key;
ALTER TABLE users DROP COLUMN IF EXISTS email_lookup;
