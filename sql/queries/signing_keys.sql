-- name: ListSigningKeys :many
SELECT * FROM signing_keys WHERE latchkey_on_primary() ORDER BY created_at, id;

-- LockSigningKeys makes all who want to change keys take turns. Readers do not wait.
-- name: LockSigningKeys :exec
LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE;

-- name: CreateSigningKey :exec
INSERT INTO signing_keys (id, algorithm, state, sealed, public, created_at, activated_at, retired_at)
VALUES (
    @id, @algorithm, @state, @sealed, @public, @created_at,
    sqlc.narg(activated_at)::timestamptz, sqlc.narg(retired_at)::timestamptz
);

-- MoveSigningKey gives a key another state. A key in the state gone loses its private key.
-- name: MoveSigningKey :exec
UPDATE signing_keys
SET state = @state::text, activated_at = sqlc.narg(activated_at)::timestamptz, retired_at = sqlc.narg(retired_at)::timestamptz,
    sealed = CASE WHEN @state::text = 'gone' THEN ''::bytea ELSE sealed END
WHERE id = @id;

-- name: ResealSigningKey :execrows
UPDATE signing_keys SET sealed = @sealed WHERE id = @id AND sealed = @old_sealed;
