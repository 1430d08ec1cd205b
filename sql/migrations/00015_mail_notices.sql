-- Bounds what an account is warned of: whoever guesses at its password must not be able to
-- fill its owner's mailbox.
--
-- locks: nothing

-- +goose Up
-- A new table: nothing waits for it.
CREATE TABLE mail_notices (
    -- No foreign key: queuing a notice must not lock an account. What a deleted account
    -- leaves is swept within a day.
    user_id uuid NOT NULL,
    kind text NOT NULL,
    last_at timestamptz NOT NULL,
    -- How many there were within a day from day_began on.
    day_began timestamptz NOT NULL,
    in_day integer NOT NULL,
    PRIMARY KEY (user_id, kind)
);

CREATE INDEX mail_notices_last_at ON mail_notices (last_at);

-- +goose Down
DROP TABLE mail_notices;
