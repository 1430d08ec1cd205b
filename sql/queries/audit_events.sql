-- name: RecordAuditEvent :exec
INSERT INTO audit_events (created_at, kind, user_id, session_id, address, trace_id, call_id)
VALUES (@created_at, @kind, @user_id, @session_id, @address, @trace_id, @call_id);

-- DeleteAuditEventsBefore deletes a batch: a backlog in one statement would run into
-- the statement timeout and never shrink.
-- name: DeleteAuditEventsBefore :execrows
DELETE FROM audit_events WHERE id IN (
    SELECT id FROM audit_events WHERE created_at < @before::timestamptz ORDER BY created_at LIMIT 5000
);
