-- ReplacePasswordReset makes token_hash the account's only live token.
-- name: ReplacePasswordReset :exec
INSERT INTO password_resets (user_id, token_hash, created_at, expires_at)
VALUES (@user_id, @token_hash, @created_at, @expires_at)
ON CONFLICT (user_id) DO UPDATE
SET token_hash = excluded.token_hash, created_at = excluded.created_at, expires_at = excluded.expires_at;

-- name: FindPasswordReset :one
SELECT sqlc.embed(users)
FROM password_resets JOIN users ON users.id = password_resets.user_id
WHERE password_resets.token_hash = @token_hash AND password_resets.expires_at > @now::timestamptz AND users.is_active;

-- SpendPasswordReset succeeds for one caller: the row is gone for the next.
-- name: SpendPasswordReset :execrows
DELETE FROM password_resets
WHERE token_hash = @token_hash AND user_id = @user_id AND expires_at > @now::timestamptz;

-- name: DeleteExpiredPasswordResets :execrows
DELETE FROM password_resets WHERE expires_at <= @now::timestamptz;
