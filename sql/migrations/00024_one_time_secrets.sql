-- One table for every kind of one-time secret that is mailed to an account, each for one purpose. The table of reset tokens
-- becomes its partition for that purpose: replicas of the version before go on using it by its name, see no other secret,
-- and so can take none for a reset. docs/decisions/2026-11-29-one-time-secrets.md says why.
--
-- The lock on password_resets waits for resets that are under way, and the table is small.
--
-- locks: users SHARE ROW EXCLUSIVE, adds table one_time_secrets, which refers to users
-- locks: users ACCESS EXCLUSIVE, makes password_resets, which refers to users, a part of it

-- +goose Up

CREATE TABLE one_time_secrets (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- What the secret is good for. The values are stored: rename none.
    purpose text NOT NULL,
    -- Who asked for it and alone may use it: a hash. Empty: whoever has the secret.
    asker bytea NOT NULL,
    -- SHA-256 of the token. The token itself is in the mail and nowhere else.
    token_hash bytea NOT NULL,
    -- The token is an HMAC of this under a key that the database does not have.
    nonce bytea,
    -- The ledger's position when the secret was asked for: a later row that ends the account's sessions refuses it.
    ledger bigint NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
) PARTITION BY LIST (purpose);

-- An account has one secret of a purpose for each asker: a newer one replaces it.
CREATE UNIQUE INDEX one_time_secrets_key ON one_time_secrets (user_id, purpose, asker);

-- The defaults are for the version before. They are constant, so that no row is written.
ALTER TABLE password_resets
    ADD COLUMN purpose text NOT NULL DEFAULT 'password_reset' CONSTRAINT password_resets_purpose CHECK (purpose = 'password_reset'),
    ADD COLUMN asker bytea NOT NULL DEFAULT '' CONSTRAINT password_resets_asker CHECK (asker = '');

CREATE UNIQUE INDEX password_resets_key ON password_resets (user_id, purpose, asker);

ALTER TABLE one_time_secrets ATTACH PARTITION password_resets FOR VALUES IN ('password_reset');

-- The secrets of all other purposes.
CREATE TABLE other_secrets PARTITION OF one_time_secrets DEFAULT;
CREATE UNIQUE INDEX other_secrets_token ON other_secrets (purpose, token_hash);
CREATE INDEX other_secrets_expires_at ON other_secrets (expires_at);

-- As before, for the secrets of every purpose.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_end_secrets(of_user uuid) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM one_time_secrets WHERE (user_id, purpose, asker) IN (
        SELECT s.user_id, s.purpose, s.asker FROM one_time_secrets s
        WHERE s.user_id = of_user OR of_user IS NULL FOR UPDATE SKIP LOCKED
    );
END
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_end_secrets(of_user uuid) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM password_resets WHERE user_id IN (
        SELECT p.user_id FROM password_resets p WHERE p.user_id = of_user OR of_user IS NULL FOR UPDATE SKIP LOCKED
    );
END
$$;
-- +goose StatementEnd

-- Reset tokens stay. Secrets of other purposes are lost: the version before does not know them.
ALTER TABLE one_time_secrets DETACH PARTITION password_resets;
DROP TABLE one_time_secrets;
DROP INDEX password_resets_key;
ALTER TABLE password_resets DROP COLUMN purpose, DROP COLUMN asker;
