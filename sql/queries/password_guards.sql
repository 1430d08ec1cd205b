-- FindPasswordEpoch reads the epoch of a password, 0 if it was never changed or replaced.
-- name: FindPasswordEpoch :one
SELECT coalesce((SELECT g.epoch FROM password_guards g WHERE g.user_id = @user_id), 0)::bigint
WHERE latchkey_on_primary();

-- RaiseFailures counts a failure before the password is compared, so that the count is exact even if the call fails
-- afterwards. failures is the new count, 0 if the account has none yet; closed says that it has reached its limit;
-- present is false if there is no row. Another caller may have changed the row between the two readings: then present
-- is true, neither failures nor closed is set, and the caller asks again.
--
-- If nothing is counted, it writes a decoy, so that the time shows nobody whether the address has an account.
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

-- LowerFailures takes one failure back, because no password was compared or the right one. If nothing was counted, it
-- writes a decoy, like RaiseFailures.
-- name: LowerFailures :exec
WITH lowered AS (
    UPDATE password_failures f SET failures = f.failures - 1
    WHERE f.user_id = @user_id AND f.kind = @kind AND f.subject = @subject AND f.closed_at IS NULL AND f.failures > 0 AND @counted::boolean
    RETURNING f.failures
)
UPDATE password_failure_decoys d SET failures = d.failures - 1
WHERE d.slot = hashtext(@lookup::text) & 255 AND NOT EXISTS (SELECT FROM lowered);

-- StartFailures writes the first failure, or adds one to the count that another call has written meanwhile. It writes
-- nothing for an account that is gone. The lock waits for a deletion that is under way.
-- name: StartFailures :one
INSERT INTO password_failures (user_id, kind, subject, failures, since)
SELECT u.id, @kind::text, @subject::uuid, 1, @now::timestamptz FROM users u WHERE u.id = @user_id FOR KEY SHARE
ON CONFLICT (user_id, kind, subject) DO UPDATE SET failures = password_failures.failures + 1
RETURNING password_failures.failures;

-- CloseFailures ends the comparison of passwords, for one caller.
-- name: CloseFailures :execrows
UPDATE password_failures SET closed_at = @now::timestamptz
WHERE user_id = @user_id AND kind = @kind AND subject = @subject AND closed_at IS NULL AND failures >= @most::integer;

-- DeleteOldFailures deletes counts of devices and sessions that began before: none of these devices and sessions is
-- alive.
-- name: DeleteOldFailures :execrows
DELETE FROM password_failures WHERE kind <> 'login' AND since < @before::timestamptz;

-- NoteDevice notes the first device token of an account.
-- name: NoteDevice :exec
INSERT INTO password_guards (user_id, devices_since) VALUES (@user_id, @now::timestamptz)
ON CONFLICT (user_id) DO UPDATE SET devices_since = coalesce(password_guards.devices_since, excluded.devices_since);

-- NoteReset notes the place from which the present password was reset. The trigger has made the row.
-- name: NoteReset :exec
UPDATE password_guards SET reset_network = @reset_network::bytea, reset_at = @reset_at::timestamptz WHERE user_id = @user_id;
