-- An address belongs to the person who proved to receive its mail. docs/decisions/2026-11-30-proved-addresses.md says why, and
-- which accounts count as proved at the upgrade: users.is_verified stays what it is, for every account.
--
-- The foreign key locks users for a moment: writers of accounts wait for it, readers do not.
--
-- locks: users SHARE ROW EXCLUSIVE, adds table unproved_sign_ups, which refers to users

-- +goose Up

-- Accounts that somebody signed up for since this migration, and whose address nobody has proved. Their names are what the
-- client typed, so they go when the owner of the address proves it without the password. Names of other accounts, which an
-- operator imported or took over, stay.
CREATE TABLE unproved_sign_ups (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE
);

-- The defaults are constant, so that no row is written. They are also for replicas of the version before, which write reset
-- tokens only.
ALTER TABLE one_time_secrets
    -- The lookup form of the address that the secret proves. Empty: it proves the address of the account.
    ADD COLUMN address text NOT NULL DEFAULT '',
    -- The six digits for people who type are an HMAC of this under a key that the database does not have, and code_hash is
    -- an HMAC of the digits. NULL: the secret has no digits.
    ADD COLUMN code_nonce bytea,
    ADD COLUMN code_hash bytea,
    -- How often digits were tried. Five times at most.
    ADD COLUMN tries integer NOT NULL DEFAULT 0;

CREATE INDEX other_secrets_address ON other_secrets (purpose, address);

-- A try at an address without a code writes one of these rows, so that its time does not show that there is none.
CREATE TABLE code_decoys (
    slot integer PRIMARY KEY,
    tries bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20);
INSERT INTO code_decoys (slot) SELECT generate_series(0, 255);

-- Mails that were asked for and whose account was not looked up yet, like reset_requests, and for every kind but those:
-- replicas of the version before would take all rows of that table for resets.
CREATE TABLE mail_requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What to mail. The values are stored: rename none.
    kind text NOT NULL,
    -- As it was typed.
    email text NOT NULL,
    -- 1 is served before 2: whose network has not asked lately.
    priority smallint NOT NULL,
    ledger bigint NOT NULL DEFAULT latchkey_ledger_position(),
    requested_at timestamptz NOT NULL DEFAULT now(),
    trace_id text NOT NULL,
    call_id text NOT NULL
);

CREATE INDEX mail_requests_turn ON mail_requests (priority, id);

-- +goose Down
DROP TABLE mail_requests;
DROP TABLE code_decoys;
DROP INDEX other_secrets_address;
ALTER TABLE one_time_secrets DROP COLUMN address, DROP COLUMN code_nonce, DROP COLUMN code_hash, DROP COLUMN tries;
DROP TABLE unproved_sign_ups;
