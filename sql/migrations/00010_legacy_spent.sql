-- locks: nothing

-- +goose Up
-- What the backends that Latchkey took over from had handed out and what was spent
-- here, once each: refresh tokens that were traded for a session, reset tokens. Redis
-- may lose its keys or get old ones back; this decides.
CREATE TABLE legacy_spent (
    -- SHA-256 of the token.
    token_hash bytea PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('refresh', 'reset')),
    user_id uuid NOT NULL,
    -- The session that a refresh token was traded for. NULL: none, it was logged out.
    session_id uuid,
    -- HMAC-SHA-256 of the request id of that trade under the token: its retry gets the
    -- same answer. NULL: it had none.
    request_hash bytea,
    -- SHA-256 of the refresh token in that answer, which is derived again from what Redis
    -- holds: whoever can write there must not be able to make another one of it.
    answer_hash bytea,
    spent_at timestamptz NOT NULL,
    -- The token is refused for its age from here on, and the row goes.
    keep_until timestamptz NOT NULL
);

CREATE INDEX legacy_spent_keep_until ON legacy_spent (keep_until);

-- +goose Down
DROP TABLE legacy_spent;
