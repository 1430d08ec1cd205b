-- name: ListSigningKeys :many
SELECT * FROM signing_keys WHERE state <> 'gone' ORDER BY created_at, id;

-- LockSigningKeys makes whoever wants to activate a key wait for its turn.
-- name: LockSigningKeys :exec
LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE;

-- name: ActiveSigningKeyAlgorithm :one
SELECT algorithm FROM signing_keys WHERE state = 'active';

-- name: RetireActiveSigningKey :exec
UPDATE signing_keys SET state = 'verify_only' WHERE state = 'active';

-- name: CreateSigningKey :exec
INSERT INTO signing_keys (id, algorithm, state, sealed, public, created_at)
VALUES (@id, @algorithm, 'active', @sealed, @public, @created_at);

-- name: ResealSigningKey :execrows
UPDATE signing_keys SET sealed = @sealed WHERE id = @id AND sealed = @old_sealed;
