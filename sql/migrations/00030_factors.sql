-- Second factors: authenticator apps, recovery codes, and what is between the password and the second factor of a login.
-- docs/decisions/2026-11-30-second-factors.md says why it is as it is.
--
-- locks: users SHARE ROW EXCLUSIVE, adds table factors, which refers to users
-- locks: users SHARE ROW EXCLUSIVE, adds table totp_enrolments, which refers to users
-- locks: users SHARE ROW EXCLUSIVE, adds table recovery_sets, which refers to users
-- locks: users SHARE ROW EXCLUSIVE, adds table factor_failures, which refers to users
-- locks: users SHARE ROW EXCLUSIVE, adds table challenges, which refers to users

-- +goose Up

-- The second factors of accounts. An account with a row here needs a second factor after its password. Recovery codes are
-- no factor of their own: they stand in for one that is lost.
CREATE TABLE factors (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- totp. The values are stored: rename none.
    kind text NOT NULL,
    -- What the owner calls it. Empty: the owner gave no name.
    name text NOT NULL,
    created_at timestamptz NOT NULL,
    last_used_at timestamptz
);
-- Each login reads the kinds of an account's factors.
CREATE INDEX factors_user ON factors (user_id, kind);
CREATE UNIQUE INDEX factors_one_totp ON factors (user_id) WHERE kind = 'totp';
-- For operators, who list accounts by factor.
CREATE INDEX factors_kind ON factors (kind, user_id);

CREATE TABLE totp_factors (
    factor_id uuid PRIMARY KEY REFERENCES factors (id) ON DELETE CASCADE,
    -- internal/seal, under a key that the database does not have.
    sealed_seed bytea NOT NULL,
    -- The step of the last code that was accepted. Only codes of later steps are accepted, so that none counts twice.
    last_step bigint NOT NULL
);
CREATE INDEX totp_factors_seal ON totp_factors (substring(sealed_seed FROM 1 FOR 5));

-- Seeds that were shown to a session and not confirmed yet.
CREATE TABLE totp_enrolments (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The session that asked for the seed and alone may confirm it.
    session_id uuid NOT NULL,
    -- The factor that it becomes.
    factor_id uuid NOT NULL,
    sealed_seed bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, session_id)
);
CREATE INDEX totp_enrolments_expires_at ON totp_enrolments (expires_at);

-- The recovery codes of an account, which are made and replaced together.
CREATE TABLE recovery_sets (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    -- The key of the hashes, sealed: without it, nobody can try all codes against them.
    sealed_key bytea NOT NULL,
    created_at timestamptz NOT NULL,
    last_used_at timestamptz
);
CREATE INDEX recovery_sets_seal ON recovery_sets (substring(sealed_key FROM 1 FOR 5));

CREATE TABLE recovery_codes (
    user_id uuid NOT NULL REFERENCES recovery_sets (user_id) ON DELETE CASCADE,
    -- HMAC-SHA-256 of the code under the key of the set.
    code_hash bytea NOT NULL,
    -- When it was used, for one login.
    spent_at timestamptz,
    PRIMARY KEY (user_id, code_hash)
);

-- Wrong codes. The counts have nothing to do with those of passwords.
CREATE TABLE factor_failures (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The device or the session whose failures are counted. Zeros: all clients that have neither.
    subject uuid NOT NULL,
    -- The password's epoch. Guesses that were made with an older password say nothing about the owner's.
    epoch bigint NOT NULL,
    -- The window in which failures are counted began then.
    since timestamptz NOT NULL,
    failures integer NOT NULL,
    -- Failures since the last right code.
    in_a_row integer NOT NULL,
    PRIMARY KEY (user_id, subject)
);
CREATE INDEX factor_failures_since ON factor_failures (since);

-- Questions that were asked and not answered yet, such as for the second factor of a login. A question is bound to its
-- purpose, its account and the ledger's position at which it was asked: whatever ends the account's sessions ends it.
CREATE TABLE challenges (
    -- SHA-256 of the token. The client alone has the token.
    token_hash bytea PRIMARY KEY,
    -- login: for the second factor, after the right password. The values are stored: rename none.
    purpose text NOT NULL,
    user_id uuid REFERENCES users (id) ON DELETE CASCADE,
    -- The session that asked, if one did.
    session_id uuid,
    -- The device that the client has proved to be.
    device_id uuid,
    ledger bigint NOT NULL,
    -- Answers so far.
    tries integer NOT NULL DEFAULT 0,
    -- What the purpose needs for the check of the answer.
    data bytea,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX challenges_user ON challenges (user_id);
CREATE INDEX challenges_expires_at ON challenges (expires_at);

-- +goose Down
DROP TABLE challenges;
DROP TABLE factor_failures;
DROP TABLE recovery_codes;
DROP TABLE recovery_sets;
DROP TABLE totp_enrolments;
DROP TABLE totp_factors;
DROP TABLE factors;
