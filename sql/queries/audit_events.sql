-- name: RecordAuditEvent :exec
INSERT INTO audit_events (created_at, kind, user_id, session_id, address, trace_id)
VALUES (@created_at, @kind, @user_id, @session_id, @address, @trace_id);

-- name: DeleteAuditEventsBefore :execrows
DELETE FROM audit_events WHERE created_at < @before::timestamptz;
