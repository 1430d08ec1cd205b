-- locks: users SHARE ROW EXCLUSIVE, adds table password_resets, which refers to users

-- +goose Up
-- One row an account: a newer token replaces the older one, spending deletes it.
CREATE TABLE password_resets (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- SHA-256 of the token; the token itself is in the mail and nowhere else.
    token_hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE INDEX password_resets_expires_at ON password_resets (expires_at);

-- +goose Down
DROP TABLE password_resets;
