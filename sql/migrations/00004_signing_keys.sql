-- locks: nothing

-- +goose Up
CREATE TABLE signing_keys (
    -- kid: the key's JWK thumbprint (RFC 7638).
    id text PRIMARY KEY,
    algorithm text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'active', 'verify_only', 'gone')),
    -- PKCS #8, sealed under LATCHKEY_SECRET_KEY.
    sealed bytea NOT NULL,
    -- SubjectPublicKeyInfo, DER.
    public bytea NOT NULL,
    created_at timestamptz NOT NULL
);

-- One key signs. Replicas that start together settle here who made it.
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (state) WHERE state = 'active';

-- +goose Down
DROP TABLE signing_keys;
