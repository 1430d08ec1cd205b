-- FindPasswordEpoch reads the epoch of a password that was never changed, or replaced, as 0.
-- name: FindPasswordEpoch :one
SELECT coalesce((SELECT g.epoch FROM password_guards g WHERE g.user_id = @user_id), 0)::bigint
WHERE latchkey_on_primary();

-- RaiseFailures counts a failure before the password is compared, so that the count is exact whatever happens
-- afterwards: failures is the new count, 0 when the account has none yet, and closed says that it has reached its
-- limit. present is false where there is no row. Another caller may have changed the row between the two readings:
-- then neither failures nor closed is set while it is present, and the caller asks again.
--
-- Where nothing is counted it writes a decoy, so that the time tells nobody whether the address has an account.
-- name: RaiseFailures :one
WITH raised AS (
    UPDATE password_failures f SET failures = f.failures + 1
    WHERE f.user_id = @user_id AND f.kind = @kind AND f.subject = @subject AND f.closed_at IS NULL AND f.failures < @most::integer
    RETURNING f.failures
), decoy AS (
    UPDATE password_failure_decoys d SET failures = d.failures + 1
    WHERE d.slot = hashtext(@lookup::text) & 255 AND NOT EXISTS (SELECT FROM raised)
)
SELECT coalesce((SELECT raised.failures FROM raised), 0)::integer AS failures,
    EXISTS (SELECT FROM password_failures f WHERE f.user_id = @user_id AND f.kind = @kind AND f.subject = @subject) AS present,
    EXISTS (
        SELECT FROM password_failures f
        WHERE f.user_id = @user_id AND f.kind = @kind AND f.subject = @subject AND (f.closed_at IS NOT NULL OR f.failures >= @most::integer)
    ) AS closed;

-- LowerFailures takes one failure back: no password was compared, or the right one. Where nothing was counted it writes
-- a decoy, as RaiseFailures does.
-- name: LowerFailures :exec
WITH lowered AS (
    UPDATE password_failures f SET failures = f.failures - 1
    WHERE f.user_id = @user_id AND f.kind = @kind AND f.subject = @subject AND f.closed_at IS NULL AND f.failures > 0 AND @counted::boolean
    RETURNING f.failures
)
UPDATE password_failure_decoys d SET failures = d.failures - 1
WHERE d.slot = hashtext(@lookup::text) & 255 AND NOT EXISTS (SELECT FROM lowered);

-- StartFailures writes the first failure, or adds one to what another call has written meanwhile. An account that is gone
-- has none.
-- name: StartFailures :one
INSERT INTO password_failures (user_id, kind, subject, failures, since)
SELECT u.id, @kind::text, @subject::uuid, 1, @now::timestamptz FROM users u WHERE u.id = @user_id
ON CONFLICT (user_id, kind, subject) DO UPDATE SET failures = password_failures.failures + 1
RETURNING password_failures.failures;

-- CloseFailures ends the checking of passwords, for one caller.
-- name: CloseFailures :execrows
UPDATE password_failures SET closed_at = @now::timestamptz
WHERE user_id = @user_id AND kind = @kind AND subject = @subject AND closed_at IS NULL AND failures >= @most::integer;

-- DeleteOldFailures forgets counts of devices and sessions that began before: none of them is alive.
-- name: DeleteOldFailures :execrows
DELETE FROM password_failures WHERE kind <> 'login' AND since < @before::timestamptz;

-- NoteDevice notes the first device token of an account.
-- name: NoteDevice :exec
INSERT INTO password_guards (user_id, devices_since) VALUES (@user_id, @now::timestamptz)
ON CONFLICT (user_id) DO UPDATE SET devices_since = coalesce(password_guards.devices_since, excluded.devices_since);

-- NoteReset notes where the present password was reset from. The trigger has made the row.
-- name: NoteReset :exec
UPDATE password_guards SET reset_network = @reset_network::bytea, reset_at = @reset_at::timestamptz WHERE user_id = @user_id;
