-- What protects passwords from guesses and must survive the loss of Redis.
--
-- locks: users SHARE ROW EXCLUSIVE, adds table password_guards, which refers to users
-- locks: users SHARE ROW EXCLUSIVE, adds table password_failures, which refers to users
-- locks: users SHARE ROW EXCLUSIVE, adds trigger latchkey_password_changed

-- +goose Up

-- One row for each account that has one of these facts.
CREATE TABLE password_guards (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- Goes up with each new password. What was proved or guessed about an older one, device tokens and counted
    -- failures, names its epoch and says nothing about the present one.
    epoch bigint NOT NULL DEFAULT 0,
    -- When the account was given its first device token: a login without one comes from a new device since.
    devices_since timestamptz,
    -- Where the password was reset from, and when: HMAC-SHA-256 of the network, which has places of its own among the
    -- failures for a while.
    reset_network bytea,
    reset_at timestamptz
);

-- Consecutive failures, written from the fifth within the window of Redis on. No row: fewer.
CREATE TABLE password_failures (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- login: by clients that nobody knows. device: by clients with a device token. change: of the current password, by
    -- sessions.
    kind text NOT NULL CHECK (kind IN ('login', 'device', 'change')),
    failures integer NOT NULL CHECK (failures >= 0),
    -- Set: passwords of this kind are checked no more until the account gets a new one.
    closed_at timestamptz,
    PRIMARY KEY (user_id, kind)
);

-- What is written for everybody who has no row above, accounts and addresses without one: a write takes longer than a
-- reading, and would tell by its time which address has an account. Their numbers mean nothing.
CREATE TABLE password_failure_decoys (
    slot integer PRIMARY KEY,
    failures bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20);
INSERT INTO password_failure_decoys (slot) SELECT generate_series(0, 255);

-- A new password, from plain SQL too, begins anew. A new hash of the same password (latchkey.rehash names the account,
-- for its transaction) changes nothing.
-- +goose StatementBegin
CREATE FUNCTION latchkey_password_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF current_setting('latchkey.rehash', true) IS DISTINCT FROM NEW.id::text THEN
        INSERT INTO password_guards (user_id, epoch) VALUES (NEW.id, 1)
        ON CONFLICT (user_id) DO UPDATE SET epoch = password_guards.epoch + 1, reset_network = NULL, reset_at = NULL;
        DELETE FROM password_failures WHERE user_id = NEW.id;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER latchkey_password_changed AFTER UPDATE OF password_hash ON users
    FOR EACH ROW WHEN (NEW.password_hash IS DISTINCT FROM OLD.password_hash)
    EXECUTE FUNCTION latchkey_password_changed();

-- +goose Down
DROP TRIGGER latchkey_password_changed ON users;
DROP FUNCTION latchkey_password_changed();
DROP TABLE password_failure_decoys;
DROP TABLE password_failures;
DROP TABLE password_guards;
