-- QueueResetRequest notes the ledger's position: if the account's sessions are ended before the request is looked up,
-- that ends the request.
-- name: QueueResetRequest :exec
INSERT INTO reset_requests (email, priority, trace_id, call_id) VALUES (@email, @priority, @trace_id, @call_id);

-- RequeueResetRequest takes over a request that an earlier version queued without a position: every later row of the
-- ledger about the account ends it.
-- name: RequeueResetRequest :exec
INSERT INTO reset_requests (email, priority, trace_id, requested_at, ledger)
VALUES (@email, 1, @trace_id, @requested_at::timestamptz, coalesce((
    SELECT r.seq FROM revocations r WHERE r.created_at <= @requested_at::timestamptz ORDER BY r.seq DESC LIMIT 1
), 0));

-- TakeResetRequests takes a batch for one caller. The batch comes back if the transaction fails.
-- name: TakeResetRequests :many
WITH taken AS MATERIALIZED ( -- or a plan may lock more than the limit
    SELECT r.id FROM reset_requests r ORDER BY r.priority, r.id LIMIT @batch_size FOR UPDATE SKIP LOCKED
)
DELETE FROM reset_requests q USING taken WHERE q.id = taken.id
RETURNING q.*;
