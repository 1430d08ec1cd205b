-- ReplaceSecret makes token_hash the account's only live secret of the purpose for the asker. It ends with the next row of
-- the ledger that ends all sessions of the account, and with its address. Lock the account first.
-- name: ReplaceSecret :exec
INSERT INTO one_time_secrets (user_id, purpose, asker, address, token_hash, nonce, ledger, created_at, expires_at)
VALUES (@user_id, @purpose, @asker, @address, @token_hash, @nonce::bytea, @position, @created_at, @expires_at)
ON CONFLICT (user_id, purpose, asker) DO UPDATE
SET address = excluded.address, token_hash = excluded.token_hash, nonce = excluded.nonce, ledger = excluded.ledger,
    created_at = excluded.created_at, expires_at = excluded.expires_at, code_nonce = NULL, code_hash = NULL, tries = 0;

-- FindLiveSecret reads the values from which the account's live secret for the address is made. A secret whose sessions were ended
-- since then is not live.
-- name: FindLiveSecret :one
SELECT s.token_hash, s.nonce FROM one_time_secrets s
WHERE s.user_id = @user_id AND s.purpose = @purpose AND s.asker = @asker
    AND s.address = @address AND s.nonce IS NOT NULL AND s.created_at > @made_after::timestamptz AND s.expires_at > @now::timestamptz
    AND NOT latchkey_ended_since(s.user_id, s.ledger) AND latchkey_on_primary();

-- ProlongSecret prolongs the secret to the life that its newest mail states.
-- name: ProlongSecret :exec
UPDATE one_time_secrets SET expires_at = @expires_at WHERE user_id = @user_id AND purpose = @purpose AND asker = @asker;

-- FindSecret returns the account that a token of this purpose and asker is for, and the address that it proves. A token of
-- another purpose finds nothing.
-- name: FindSecret :one
SELECT sqlc.embed(users), s.address
FROM one_time_secrets s JOIN users ON users.id = s.user_id
WHERE s.purpose = @purpose AND s.asker = @asker AND s.token_hash = @token_hash AND s.expires_at > @now::timestamptz
    AND users.is_active AND NOT latchkey_ended_since(users.id, s.ledger) AND latchkey_on_primary();

-- SpendSecret succeeds for one caller: the row is gone for the next. Lock the account first.
-- name: SpendSecret :execrows
DELETE FROM one_time_secrets
WHERE purpose = @purpose AND asker = @asker AND token_hash = @token_hash AND user_id = @user_id
    AND expires_at > @now::timestamptz AND NOT latchkey_ended_since(user_id, ledger);

-- FindCode reads the values from which the digits of the account's secret are made.
-- name: FindCode :one
SELECT s.code_nonce, s.code_hash, s.tries FROM one_time_secrets s
WHERE s.user_id = @user_id AND s.purpose = @purpose AND s.asker = @asker AND latchkey_on_primary();

-- SetCode gives the secret other digits, with tries of their own.
-- name: SetCode :exec
UPDATE one_time_secrets SET code_nonce = @code_nonce::bytea, code_hash = @code_hash::bytea, tries = 0
WHERE user_id = @user_id AND purpose = @purpose AND asker = @asker;

-- TryCodes counts a try at the digits of every secret that proves one of the addresses, before anything is compared, so
-- that no race and no crash makes a try free. It returns what to compare with. If there is none, it writes a decoy, so that
-- the time shows nobody whether there is one. The rows are locked in one order, so that two tries do not deadlock.
-- name: TryCodes :many
WITH picked AS MATERIALIZED (
    SELECT s.user_id, s.purpose, s.asker FROM one_time_secrets s
    WHERE s.purpose = @purpose AND s.address = ANY (@addresses::text[]) AND s.code_hash IS NOT NULL AND s.tries < @most::integer
        AND s.expires_at > @now::timestamptz AND NOT latchkey_ended_since(s.user_id, s.ledger)
    ORDER BY s.user_id, s.asker FOR UPDATE
), tried AS (
    UPDATE one_time_secrets t SET tries = t.tries + 1
    FROM picked WHERE t.user_id = picked.user_id AND t.purpose = picked.purpose AND t.asker = picked.asker
    RETURNING t.user_id, t.asker, t.address, t.code_hash
), spared AS MATERIALIZED ( -- the same steps with a decoy
    SELECT d.slot FROM code_decoys d
    WHERE d.slot = hashtext((@addresses::text[])[1]) & 255 AND NOT EXISTS (SELECT FROM picked)
        AND NOT latchkey_ended_since(gen_random_uuid(), (SELECT seq FROM ledger_head))
    FOR UPDATE
), decoy AS (
    UPDATE code_decoys d SET tries = d.tries + 1 FROM spared WHERE d.slot = spared.slot
    RETURNING '00000000-0000-0000-0000-000000000000'::uuid AS user_id, ''::bytea AS asker, (@addresses::text[])[1] AS address,
        sha256(convert_to((@addresses::text[])[1], 'UTF8')) AS code_hash
)
SELECT tried.user_id::uuid AS user_id, tried.asker::bytea AS asker, tried.address::text AS address, tried.code_hash::bytea AS code_hash
FROM (SELECT * FROM tried UNION ALL SELECT * FROM decoy) AS tried WHERE latchkey_on_primary();

-- TryAskedCode is TryCodes for the one secret that an asker may use. It also returns the ledger's position at which the
-- secret was asked for: every later revocation refuses a session that carries it. A decoy returns a row too, of nobody.
-- name: TryAskedCode :one
WITH picked AS MATERIALIZED (
    SELECT s.user_id, s.purpose, s.asker FROM one_time_secrets s
    WHERE s.purpose = @purpose AND s.asker = @asker AND s.asker <> '' AND s.code_hash IS NOT NULL AND s.tries < @most::integer
        AND s.expires_at > @now::timestamptz AND NOT latchkey_ended_since(s.user_id, s.ledger)
    FOR UPDATE
), tried AS (
    UPDATE one_time_secrets t SET tries = t.tries + 1
    FROM picked WHERE t.user_id = picked.user_id AND t.purpose = picked.purpose AND t.asker = picked.asker
    RETURNING t.user_id, t.asker, t.address, t.code_hash, t.ledger
), spared AS MATERIALIZED ( -- the same steps with a decoy
    SELECT d.slot FROM code_decoys d
    WHERE d.slot = get_byte(@asker, 0) AND NOT EXISTS (SELECT FROM picked)
        AND NOT latchkey_ended_since(gen_random_uuid(), (SELECT seq FROM ledger_head))
    FOR UPDATE
), decoy AS (
    UPDATE code_decoys d SET tries = d.tries + 1 FROM spared WHERE d.slot = spared.slot
    RETURNING '00000000-0000-0000-0000-000000000000'::uuid AS user_id, @asker::bytea AS asker, 'nobody@example.com' AS address,
        sha256(@asker::bytea) AS code_hash, 0::bigint AS ledger
)
SELECT tried.user_id::uuid AS user_id, tried.asker::bytea AS asker, tried.address::text AS address,
    tried.code_hash::bytea AS code_hash, tried.ledger::bigint AS position
FROM (SELECT * FROM tried UNION ALL SELECT * FROM decoy) AS tried WHERE latchkey_on_primary();

-- CountDecoy writes a row for nobody, about as much as an event of an account.
-- name: CountDecoy :exec
UPDATE code_decoys SET tries = tries + 1 WHERE slot = @slot;

-- SpendCode is SpendSecret by the digits.
-- name: SpendCode :execrows
DELETE FROM one_time_secrets
WHERE purpose = @purpose AND asker = @asker AND code_hash = @code_hash::bytea AND user_id = @user_id
    AND expires_at > @now::timestamptz AND NOT latchkey_ended_since(user_id, ledger);

-- DeleteSecrets deletes all secrets of an account.
-- name: DeleteSecrets :exec
DELETE FROM one_time_secrets WHERE user_id = @user_id;

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
