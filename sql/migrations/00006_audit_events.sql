-- locks: nothing

-- +goose Up
-- What happened to accounts, for the people who answer for them. No foreign keys:
-- the trail outlives the account.
CREATE TABLE audit_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL,
    kind text NOT NULL,
    user_id uuid NOT NULL,
    session_id uuid,
    -- The client's address, by the trusted-proxy setting.
    address text NOT NULL,
    trace_id text NOT NULL
);

CREATE INDEX audit_events_user_id ON audit_events (user_id, id);

CREATE INDEX audit_events_created_at ON audit_events (created_at);

-- +goose Down
DROP TABLE audit_events;
