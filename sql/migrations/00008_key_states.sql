-- Signing keys move through all of their states, and their times say when.
--
-- locks: nothing

-- +goose Up
ALTER TABLE signing_keys
    -- When it began to sign. NULL: it has not, or a version before this one made it
    -- active, which was when it was created.
    ADD COLUMN activated_at timestamptz,
    -- When it ended to sign, or was given up. NULL on a verify_only key: a version
    -- before this one retired it, and the time is counted from when that is noticed.
    ADD COLUMN retired_at timestamptz;

-- One key is next. Replicas whose schedules fire together settle here who made it.
CREATE UNIQUE INDEX signing_keys_one_pending ON signing_keys (state) WHERE state = 'pending';

-- The row of a key that is gone keeps its id from being used again, and no secret.
UPDATE signing_keys SET sealed = '' WHERE state = 'gone';

ALTER TABLE signing_keys ADD CONSTRAINT signing_keys_gone_without_secret CHECK (state <> 'gone' OR sealed = '');

-- +goose Down
-- An older version publishes no pending key: it would sign unannounced after the next
-- migration up.
DELETE FROM signing_keys WHERE state = 'pending';
ALTER TABLE signing_keys DROP CONSTRAINT signing_keys_gone_without_secret;
DROP INDEX signing_keys_one_pending;
ALTER TABLE signing_keys DROP COLUMN activated_at, DROP COLUMN retired_at;
