-- Failures in a row are counted by device and session too: one that was stolen must not close the others.
--
-- locks: nothing

-- +goose Up

ALTER TABLE password_failures
    -- The device or session whose failures are counted; zeros for kind login, where all count together.
    ADD COLUMN subject uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- When the count began. Counts of devices and sessions are deleted once neither can be alive.
    ADD COLUMN since timestamptz NOT NULL DEFAULT now(),
    DROP CONSTRAINT password_failures_pkey,
    ADD PRIMARY KEY (user_id, kind, subject);

CREATE INDEX password_failures_of_clients ON password_failures (since) WHERE kind <> 'login';

-- +goose Down
-- What was counted of devices and sessions is forgotten.
DELETE FROM password_failures WHERE kind <> 'login';
DROP INDEX password_failures_of_clients;
ALTER TABLE password_failures
    DROP CONSTRAINT password_failures_pkey,
    DROP COLUMN subject,
    DROP COLUMN since,
    ADD PRIMARY KEY (user_id, kind);
