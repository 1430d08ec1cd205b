-- Logins by a mailed code. docs/decisions/2026-11-30-login-by-code.md says why they are as they are.
--
-- The defaults are constant, so that no row is written. They are also for replicas of the version before.
--
-- locks: nothing

-- +goose Up

-- Who asked for the mail and alone may use what it holds: a hash. Empty: everybody who has the mail.
ALTER TABLE mail_requests ADD COLUMN asker bytea NOT NULL DEFAULT '';

-- Finds the code of the client that asked for it.
CREATE INDEX other_secrets_asker ON other_secrets (purpose, asker) WHERE asker <> '';

-- Each try updates its row. With room in the page it writes no index, and takes as long as a try at a decoy.
ALTER TABLE other_secrets SET (fillfactor = 30);

-- The methods of the first factor, after which the challenge asks for the second (RFC 8176).
ALTER TABLE challenges ADD COLUMN first_amr text[] NOT NULL DEFAULT '{pwd}';

-- +goose Down
ALTER TABLE challenges DROP COLUMN first_amr;
ALTER TABLE other_secrets RESET (fillfactor);
DROP INDEX other_secrets_asker;
ALTER TABLE mail_requests DROP COLUMN asker;
