-- CreatePasskey creates no row if an account has the credential.
-- name: CreatePasskey :execrows
INSERT INTO passkeys (factor_id, rp_id, credential_id, public_key, flags, sign_count, aaguid, transports)
VALUES (@factor_id, @rp_id, @credential_id, @public_key, @flags, @sign_count, @aaguid, @transports::text[])
ON CONFLICT (credential_id) DO NOTHING;

-- ListPasskeys lists the passkeys of an account for a domain, the oldest first.
-- name: ListPasskeys :many
SELECT p.* FROM passkeys p JOIN factors f ON f.id = p.factor_id
WHERE f.user_id = @user_id AND p.rp_id = @rp_id AND latchkey_on_primary() ORDER BY f.created_at, f.id;

-- CountPasskeys counts the passkeys of an account, for all domains.
-- name: CountPasskeys :one
SELECT count(*) FROM factors WHERE user_id = @user_id AND kind = 'passkey' AND latchkey_on_primary();

-- FindPasskey reads a passkey, its account, and the ledger's position in one statement: every later revocation refuses a
-- session that carries this position.
-- name: FindPasskey :one
SELECT sqlc.embed(p), sqlc.embed(users), (SELECT seq FROM ledger_head)::bigint AS position,
    coalesce(g.epoch, 0)::bigint AS password_epoch, g.devices_since
FROM passkeys p JOIN factors f ON f.id = p.factor_id JOIN users ON users.id = f.user_id
    LEFT JOIN password_guards g ON g.user_id = users.id
WHERE p.credential_id = @credential_id AND p.rp_id = @rp_id AND latchkey_on_primary();

-- UsePasskey keeps what a login has shown. It changes no row if the passkey was removed meanwhile.
-- name: UsePasskey :execrows
WITH used AS (
    UPDATE passkeys p SET flags = @flags, sign_count = greatest(p.sign_count, @sign_count::bigint)
    WHERE p.factor_id = @factor_id RETURNING p.factor_id
)
UPDATE factors SET last_used_at = @now::timestamptz FROM used WHERE factors.id = used.factor_id;

-- name: RenamePasskey :execrows
UPDATE factors SET name = @name WHERE id = @id AND user_id = @user_id AND kind = 'passkey';

-- name: DeletePasskey :execrows
DELETE FROM factors WHERE id = @id AND user_id = @user_id AND kind = 'passkey';
