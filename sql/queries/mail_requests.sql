-- QueueMailRequest notes the ledger's position: if the account's sessions are ended before the request is looked up, that
-- ends the request.
-- name: QueueMailRequest :exec
INSERT INTO mail_requests (kind, email, priority, trace_id, call_id, asker)
VALUES (@kind, @email, @priority, @trace_id, @call_id, coalesce(@asker::bytea, ''));

-- TakeMailRequests takes a batch for one caller. The batch comes back if the transaction fails. It leaves kinds of a newer
-- version to its replicas.
-- name: TakeMailRequests :many
WITH taken AS MATERIALIZED ( -- or a plan may lock more than the limit
    SELECT r.id FROM mail_requests r WHERE r.kind = ANY (@kinds::text[])
    ORDER BY r.priority, r.id LIMIT @batch_size FOR UPDATE SKIP LOCKED
)
DELETE FROM mail_requests q USING taken WHERE q.id = taken.id
RETURNING q.*;
