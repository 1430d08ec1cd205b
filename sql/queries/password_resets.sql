-- ReplacePasswordReset makes token_hash the account's only live token. It ends with the
-- next row of the ledger that ends all sessions of the account, and with its address.
-- name: ReplacePasswordReset :exec
INSERT INTO password_resets (user_id, token_hash, nonce, ledger, created_at, expires_at)
VALUES (@user_id, @token_hash, @nonce::bytea, @position, @created_at, @expires_at)
ON CONFLICT (user_id) DO UPDATE
SET token_hash = excluded.token_hash, nonce = excluded.nonce, ledger = excluded.ledger,
    created_at = excluded.created_at, expires_at = excluded.expires_at;

-- FindLiveReset reads what the account's live token is made of. One whose sessions were ended since is none.
-- name: FindLiveReset :one
SELECT p.token_hash, p.nonce FROM password_resets p
WHERE p.user_id = @user_id AND p.nonce IS NOT NULL AND p.created_at > @made_after::timestamptz AND p.expires_at > @now::timestamptz
    AND NOT latchkey_ended_since(p.user_id, p.ledger) AND latchkey_on_primary();

-- ProlongPasswordReset lets the token live for as long as its newest mail says.
-- name: ProlongPasswordReset :exec
UPDATE password_resets SET expires_at = @expires_at WHERE user_id = @user_id;

-- name: FindPasswordReset :one
SELECT sqlc.embed(users)
FROM password_resets JOIN users ON users.id = password_resets.user_id
WHERE password_resets.token_hash = @token_hash AND password_resets.expires_at > @now::timestamptz AND users.is_active
    AND NOT latchkey_ended_since(users.id, password_resets.ledger) AND latchkey_on_primary();

-- SpendPasswordReset succeeds for one caller: the row is gone for the next. Lock the
-- account first.
-- name: SpendPasswordReset :execrows
DELETE FROM password_resets
WHERE token_hash = @token_hash AND user_id = @user_id AND expires_at > @now::timestamptz
    AND NOT latchkey_ended_since(user_id, ledger);

-- name: DeleteExpiredPasswordResets :execrows
DELETE FROM password_resets WHERE expires_at <= @now::timestamptz;

-- EndedSince says whether the account's sessions were ended after a position, and its
-- links with them, or its address changed.
-- name: EndedSince :one
SELECT latchkey_ended_since(@user_id::uuid, @position::bigint)::boolean WHERE latchkey_on_primary();

-- FindResetAccounts looks addresses up, each as FindUserByEmail does. place is the number
-- that the caller gave an address; those that nobody has are left out.
-- name: FindResetAccounts :many
SELECT asked.place::integer AS place, sqlc.embed(users)
FROM (SELECT unnest(@places::integer[]) AS place, unnest(@emails::text[]) AS email, unnest(@email_lookups::text[]) AS lookup) AS asked
CROSS JOIN LATERAL (
    SELECT u.id FROM users u
    WHERE u.email = asked.email OR u.email_lookup = asked.lookup
    ORDER BY (u.email = asked.email) DESC
    LIMIT 1
) AS found
JOIN users ON users.id = found.id
WHERE latchkey_on_primary();
