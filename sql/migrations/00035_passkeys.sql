-- Passkeys. Each is a row of factors too, of the kind passkey.
--
-- locks: nothing

-- +goose Up
CREATE TABLE passkeys (
    factor_id uuid PRIMARY KEY REFERENCES factors (id) ON DELETE CASCADE,
    -- The domain for which it was made. It is good for no other.
    rp_id text NOT NULL,
    -- Unique over all accounts: the authenticator chooses it, and a login without an address looks it up. At most 1,023 bytes.
    credential_id bytea NOT NULL,
    -- A COSE key.
    public_key bytea NOT NULL,
    -- The flags of the authenticator data. Without the bit "backup eligible", a synced passkey could not log in again.
    flags smallint NOT NULL,
    -- The highest sign count so far. 0: the authenticator does not count.
    sign_count bigint NOT NULL,
    -- The model of the authenticator, and how browsers reach it. Both are hints, and not proved.
    aaguid uuid NOT NULL,
    transports text[] NOT NULL
);
CREATE UNIQUE INDEX passkeys_credential ON passkeys (credential_id);

-- +goose Down
DROP TABLE passkeys;
DELETE FROM factors WHERE kind = 'passkey';
