-- A link that is asked for again while it lives is mailed again, not replaced: others who ask cannot end it.
--
-- locks: nothing

-- +goose Up
-- The token is an HMAC of this under a key that the database does not have. NULL: an earlier version made it. The lock on
-- the table waits for resets that are under way, and the table is small.
ALTER TABLE password_resets ADD COLUMN nonce bytea;

-- +goose Down
ALTER TABLE password_resets DROP COLUMN nonce;
