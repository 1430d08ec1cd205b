-- name: LegacySpent :one
SELECT EXISTS (SELECT FROM legacy_spent WHERE token_hash = @token_hash);
