-- ReplaceSecret makes token_hash the account's only live secret of the purpose for the asker. It ends with the next row of
-- the ledger that ends all sessions of the account, and with its address. Lock the account first.
-- name: ReplaceSecret :exec
INSERT INTO one_time_secrets (user_id, purpose, asker, token_hash, nonce, ledger, created_at, expires_at)
VALUES (@user_id, @purpose, @asker, @token_hash, @nonce::bytea, @position, @created_at, @expires_at)
ON CONFLICT (user_id, purpose, asker) DO UPDATE
SET token_hash = excluded.token_hash, nonce = excluded.nonce, ledger = excluded.ledger,
    created_at = excluded.created_at, expires_at = excluded.expires_at;

-- FindLiveSecret reads the values from which the account's live secret is made. A secret whose sessions were ended
-- since then is not live.
-- name: FindLiveSecret :one
SELECT s.token_hash, s.nonce FROM one_time_secrets s
WHERE s.user_id = @user_id AND s.purpose = @purpose AND s.asker = @asker
    AND s.nonce IS NOT NULL AND s.created_at > @made_after::timestamptz AND s.expires_at > @now::timestamptz
    AND NOT latchkey_ended_since(s.user_id, s.ledger) AND latchkey_on_primary();

-- ProlongSecret prolongs the secret to the life that its newest mail states.
-- name: ProlongSecret :exec
UPDATE one_time_secrets SET expires_at = @expires_at WHERE user_id = @user_id AND purpose = @purpose AND asker = @asker;

-- FindSecret returns the account that a token of this purpose and asker is for. A token of another purpose finds nothing.
-- name: FindSecret :one
SELECT sqlc.embed(users)
FROM one_time_secrets s JOIN users ON users.id = s.user_id
WHERE s.purpose = @purpose AND s.asker = @asker AND s.token_hash = @token_hash AND s.expires_at > @now::timestamptz
    AND users.is_active AND NOT latchkey_ended_since(users.id, s.ledger) AND latchkey_on_primary();

-- SpendSecret succeeds for one caller: the row is gone for the next. Lock the account first.
-- name: SpendSecret :execrows
DELETE FROM one_time_secrets
WHERE purpose = @purpose AND asker = @asker AND token_hash = @token_hash AND user_id = @user_id
    AND expires_at > @now::timestamptz AND NOT latchkey_ended_since(user_id, ledger);

-- name: DeleteExpiredSecrets :execrows
DELETE FROM one_time_secrets WHERE expires_at <= @now::timestamptz;

-- EndedSince says whether the account's sessions, and its links with them, were ended after a position, or its address
-- changed.
-- name: EndedSince :one
SELECT latchkey_ended_since(@user_id::uuid, @position::bigint)::boolean WHERE latchkey_on_primary();

-- FindResetAccounts looks up addresses, each in the same way as FindUserByEmail. place is the caller's number for an
-- address. Addresses that nobody has are left out.
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
