-- DeleteUser deletes an account with all that refers to it, and the rows that have its id or its address without a
-- reference. Lock the account first. It leaves requests that somebody is looking up: they find no account.
-- name: DeleteUser :execrows
WITH notices AS (
    DELETE FROM mail_notices n WHERE n.user_id = @id
), resets AS (
    DELETE FROM reset_requests WHERE reset_requests.id IN (
        SELECT r.id FROM reset_requests r
        WHERE r.email = @email::text OR latchkey_email_lookup(r.email) = @email_lookup::text FOR UPDATE SKIP LOCKED
    )
), requests AS (
    DELETE FROM mail_requests WHERE mail_requests.id IN (
        SELECT q.id FROM mail_requests q
        WHERE q.email = @email::text OR latchkey_email_lookup(q.email) = @email_lookup::text FOR UPDATE SKIP LOCKED
    )
)
DELETE FROM users WHERE users.id = @id;

-- FindDeleted returns when an account was deleted. It finds nothing once the ledger has dropped the row.
-- name: FindDeleted :one
SELECT r.created_at FROM revocations r
WHERE r.kind = 'user' AND r.user_id = @user_id::uuid AND r.reason = 'user_deleted' AND latchkey_on_primary()
ORDER BY r.seq DESC LIMIT 1;

-- name: MarkDeletion :exec
INSERT INTO account_deletions (user_id, requested_at, delete_at, suspended) VALUES (@user_id, @requested_at, @delete_at, @suspended);

-- name: FindDeletion :one
SELECT * FROM account_deletions WHERE user_id = @user_id AND latchkey_on_primary();

-- FindDeletions reads the marks of several accounts.
-- name: FindDeletions :many
SELECT * FROM account_deletions WHERE user_id = ANY (@user_ids::uuid[]) AND latchkey_on_primary();

-- SuspendMarked notes that an account stays suspended if its deletion is cancelled.
-- name: SuspendMarked :execrows
UPDATE account_deletions SET suspended = true WHERE user_id = @user_id AND NOT suspended;

-- name: UnmarkDeletion :exec
DELETE FROM account_deletions WHERE user_id = @user_id;

-- DueDeletions reads a page of the accounts that are to be deleted by now, after the last one of the page before.
-- name: DueDeletions :many
SELECT user_id, delete_at FROM account_deletions
WHERE delete_at <= @now::timestamptz AND (delete_at, user_id) > (@after::timestamptz, @after_id::uuid) AND latchkey_on_primary()
ORDER BY delete_at, user_id LIMIT 100;

-- name: QueueFarewell :exec
INSERT INTO farewell_mails (id, address, made_at) VALUES (@id, @address, @made_at);

-- name: FindFarewell :one
SELECT address FROM farewell_mails WHERE id = @id AND latchkey_on_primary();

-- name: DeleteFarewell :exec
DELETE FROM farewell_mails WHERE id = @id;

-- DeleteOldFarewells deletes the addresses of mails that were given up.
-- name: DeleteOldFarewells :execrows
DELETE FROM farewell_mails WHERE made_at < @before::timestamptz;

-- ListPending lists the secrets that were mailed to an account and can still be used, without the secrets.
-- name: ListPending :many
SELECT purpose, address, created_at, expires_at FROM one_time_secrets
WHERE user_id = @user_id AND expires_at > @now::timestamptz AND latchkey_on_primary()
ORDER BY created_at, purpose, asker;
