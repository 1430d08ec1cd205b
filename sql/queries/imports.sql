-- ImportUsers makes the accounts that are not there yet, judged by address, lookup value and identifier, and returns
-- the identifiers of the new ones. Each array has one element for each account. The year 1 as last_login_at means
-- never.
-- name: ImportUsers :many
INSERT INTO users (
    id, email, email_lookup, password_hash, first_name, last_name, created_at, updated_at, last_login_at, is_active, is_verified
)
SELECT
    unnest(@ids::uuid[]), unnest(@emails::text[]), unnest(@email_lookups::text[]), unnest(@password_hashes::text[]),
    unnest(@first_names::text[]), unnest(@last_names::text[]), unnest(@created_ats::timestamptz[]), @now::timestamptz,
    nullif(unnest(@last_login_ats::timestamptz[]), '0001-01-01 00:00:00+00'::timestamptz),
    unnest(@are_active::boolean[]), unnest(@are_verified::boolean[])
ON CONFLICT DO NOTHING
RETURNING id;

-- FillPasswords gives accounts their first password hash. '!' is password.None, so it never overwrites a password.
-- Nobody could log in, so nothing is revoked: a setting, which lasts for its transaction, says so to the triggers. The
-- triggers run at the end of a statement if its transaction has set all constraints immediate. So there is one
-- statement for each account, and all are sent at once.
-- name: FillPasswords :batchone
UPDATE users SET password_hash = @password_hash
WHERE id = @id AND password_hash = '!' AND set_config('latchkey.rehash', @id::text, true) IS NOT NULL
RETURNING id;

-- HoldersOf finds the accounts that hold any of these values, and whether they have no password.
-- name: HoldersOf :many
SELECT id, email, email_lookup, (password_hash = '!')::boolean AS without_password FROM users
WHERE email_lookup = ANY(@email_lookups::text[]) OR email = ANY(@emails::text[]) OR id = ANY(@ids::uuid[]);

-- ExportUsers reads accounts, oldest first, after the last one that was read. It leaves out those that are to be deleted:
-- nothing would delete them where the file goes.
-- name: ExportUsers :many
SELECT * FROM users
WHERE (created_at, id) > (@after::timestamptz, @after_id::uuid)
    AND NOT EXISTS (SELECT FROM account_deletions d WHERE d.user_id = users.id)
ORDER BY created_at, id
LIMIT @page_size;

-- CountUsers is for the progress of an export.
-- name: CountUsers :one
SELECT count(*) FROM users;
