-- The form in which addresses are compared is computed in Go (package address): SQL
-- has no A-label form of domains, and its lower() follows the database's locale, whose
-- letters may be Turkish. What SQL can do alike under every locale is ASCII; all else
-- is NULL here, so that the account logs in with its exact address, and is filled in by
-- Latchkey after each migration and once an hour.
--
-- Outside a transaction, so that the index is built without locking a table in use;
-- every statement can be run again. The index holds the addresses that are not ASCII.
--
-- locks: users SHARE UPDATE EXCLUSIVE, builds index users_email_beyond_ascii
-- locks: users ROW EXCLUSIVE, fills email_lookup

-- +goose NO TRANSACTION
-- +goose Up
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_email_lookup(email text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN octet_length(email) = char_length(email) THEN lower(email COLLATE "C") END
$$;
-- +goose StatementEnd

-- A build that was interrupted leaves an invalid index behind.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_index WHERE indexrelid = to_regclass('users_email_beyond_ascii') AND NOT indisvalid
    ) THEN
        DROP INDEX users_email_beyond_ascii;
    END IF;
END
$$;
-- +goose StatementEnd

-- The build waits for every older snapshot, a running backup's too, and blocks
-- nobody meanwhile: it may take its time.
SET lock_timeout = 0;

CREATE INDEX CONCURRENTLY IF NOT EXISTS users_email_beyond_ascii ON users (id)
    WHERE octet_length(email) <> char_length(email);

RESET lock_timeout;

-- Values that another locale made of ASCII are given up, and filled in anew with the
-- others. Mostly there are none, and one read of the table finds that. A commit every
-- 1,000 rows keeps each lock short.
-- +goose StatementBegin
DO $$
DECLARE
    wrong uuid[];
BEGIN
    SELECT array_agg(id) INTO wrong FROM users WHERE email_lookup <> latchkey_email_lookup(email);
    FOR i IN 0..coalesce(cardinality(wrong) - 1, -1) / 1000 LOOP
        UPDATE users SET email_lookup = NULL
        WHERE id = ANY(wrong[i * 1000 + 1 : i * 1000 + 1000]) AND email_lookup <> latchkey_email_lookup(email);
        COMMIT;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP INDEX IF EXISTS users_email_beyond_ascii;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_email_lookup(email text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT normalize(lower(normalize(email, NFC)), NFC)
$$;
-- +goose StatementEnd
