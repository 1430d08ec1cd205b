-- MarkSession notes how far a session has come. If a crash of the server loses a mark, the bound is only set later, so
-- no flush is needed. The lock waits for a deletion of the account that is under way, which would not see the row.
-- name: MarkSession :exec
INSERT INTO session_marks AS m (session_id, user_id, generation, marked_at, keep_until)
SELECT @session_id, users.id, @generation, @marked_at, @keep_until FROM users
WHERE users.id = @user_id AND set_config('synchronous_commit', 'off', true) IS NOT NULL
FOR KEY SHARE
ON CONFLICT (session_id) DO UPDATE
SET generation = excluded.generation, marked_at = excluded.marked_at
WHERE m.generation < excluded.generation;

-- SessionMark returns the newest known generation of a session, 0 if it has no mark.
-- name: SessionMark :one
SELECT coalesce((SELECT generation FROM session_marks WHERE session_id = @session_id AND user_id = @user_id), 0)::bigint
WHERE latchkey_on_primary();

-- DeleteOldSessionMarks deletes a batch of marks whose sessions have ended because of their age.
-- name: DeleteOldSessionMarks :execrows
DELETE FROM session_marks WHERE session_id IN (
    SELECT session_id FROM session_marks WHERE keep_until <= @now::timestamptz ORDER BY keep_until LIMIT 5000
);
