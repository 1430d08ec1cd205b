-- name: RecordAuditEvent :exec
INSERT INTO audit_events (created_at, kind, user_id, session_id, address, trace_id, call_id)
VALUES (@created_at, @kind, @user_id, @session_id, @address, @trace_id, @call_id);

-- RecordRepeatedEvent counts an event on the row that the same session has written since then, or makes a row. It reads
-- only the newest rows of the account, so that it stays fast with any number of rows.
-- name: RecordRepeatedEvent :exec
WITH counted AS (
    UPDATE audit_events SET times = times + 1 WHERE id = (
        SELECT recent.id
        FROM (
            SELECT id, kind, session_id, created_at FROM audit_events
            WHERE user_id = @user_id ORDER BY id DESC LIMIT 100
        ) AS recent
        WHERE recent.kind = @kind::text AND recent.session_id = @session_id::uuid AND recent.created_at > @since::timestamptz
        ORDER BY recent.id DESC LIMIT 1
    )
    RETURNING id
)
INSERT INTO audit_events (created_at, kind, user_id, session_id, address, trace_id, call_id)
SELECT @created_at, @kind, @user_id, @session_id::uuid, @address, @trace_id, @call_id
WHERE NOT EXISTS (SELECT FROM counted);

-- NewestAuditEvent returns the last event of an account. Ids are given out in the order of the account's lock if the
-- writers hold it.
-- name: NewestAuditEvent :one
SELECT kind, session_id FROM audit_events WHERE user_id = @user_id AND latchkey_on_primary() ORDER BY id DESC LIMIT 1;

-- SessionInTrail says whether the trail has an event of the session for the account other than its end: anybody can ask
-- for the end of any identifier. It reads only the newest rows, which takes some milliseconds.
-- name: SessionInTrail :one
SELECT EXISTS (
    SELECT FROM (
        SELECT kind, session_id FROM audit_events WHERE user_id = @user_id ORDER BY id DESC LIMIT 5000
    ) AS recent
    WHERE recent.session_id = @session_id::uuid AND recent.kind NOT IN ('session_revoked', 'user_session_revoked')
) WHERE latchkey_on_primary();

-- RecordSignUpAttempt writes the event of a sign-up with a taken address. The owner gets a mail about it in the same
-- transaction. It writes no event within an hour of such a mail.
-- name: RecordSignUpAttempt :exec
WITH asked AS (
    SELECT @user_id::uuid AS user_id, @notice::text AS notice, @created_at::timestamptz AS at
)
INSERT INTO audit_events (created_at, kind, user_id, address, trace_id, call_id)
SELECT asked.at, @kind::text, asked.user_id, @address::text, @trace_id::text, @call_id::text FROM asked
WHERE NOT EXISTS (
    SELECT FROM mail_notices n
    WHERE n.user_id = asked.user_id AND n.kind = asked.notice AND abs(extract(epoch FROM asked.at - n.last_at)) < 3600
);

-- DeleteAuditEventsBefore deletes a batch: one statement for a whole backlog would reach the statement timeout, and the
-- backlog would never shrink.
-- name: DeleteAuditEventsBefore :execrows
DELETE FROM audit_events WHERE id IN (
    SELECT id FROM audit_events WHERE created_at < @before::timestamptz ORDER BY created_at LIMIT 5000
);
