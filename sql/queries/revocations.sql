-- name: AppendSessionRevocation :one
SELECT latchkey_append_revocation('session', @session_id::uuid, @user_id::uuid, NULL, NULL, @keep_until::timestamptz)::bigint;

-- name: AppendUserRevocation :one
SELECT latchkey_append_revocation('user', NULL, @user_id::uuid, NULL, NULL, @keep_until::timestamptz)::bigint;

-- name: SessionRevoked :one
SELECT EXISTS (SELECT FROM revocations WHERE kind = 'session' AND session_id = @session_id::uuid);
