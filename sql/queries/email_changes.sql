-- SetNewEmail notes the address that a secret will give to the account, as it was typed, and the session that asks for it.
-- name: SetNewEmail :exec
UPDATE one_time_secrets SET new_email = @new_email::text, data = uuid_send(@session_id::uuid)
WHERE user_id = @user_id AND purpose = @purpose AND asker = @asker;

-- FindEmailChange reads the change that an account waits for, and the session that has asked for it (zeros: a replica of
-- the version before has stored the change, and did not say). Lock the account first.
-- name: FindEmailChange :one
SELECT coalesce(s.new_email, '')::text AS new_email, s.address,
    coalesce(encode(s.data, 'hex')::uuid, '00000000-0000-0000-0000-000000000000')::uuid AS session_id
FROM one_time_secrets s
WHERE s.user_id = @user_id AND s.purpose = @purpose AND s.asker = @asker AND s.expires_at > @now::timestamptz
    AND NOT latchkey_ended_since(s.user_id, s.ledger) AND latchkey_on_primary();

-- AddressReserved says whether an account other than this one may take the address back, because its address was changed
-- lately. Ask it after the statement that takes the address. That statement waits for a change that is under way and gives
-- the address up, so this one sees what that change has reserved.
-- name: AddressReserved :one
SELECT EXISTS (
    SELECT FROM one_time_secrets s
    WHERE s.purpose = 'undo_email_change' AND s.address = @address AND s.user_id <> @user_id AND s.expires_at > @now::timestamptz
)::boolean WHERE latchkey_on_primary();

-- ReservedAddresses returns those of these addresses that AddressReserved is true for, for an account that is new.
-- name: ReservedAddresses :many
SELECT DISTINCT s.address FROM one_time_secrets s
WHERE s.purpose = 'undo_email_change' AND s.address = ANY (@addresses::text[]) AND s.expires_at > @now::timestamptz AND latchkey_on_primary();

-- AddressHeld says whether another account has the address.
-- name: AddressHeld :one
SELECT EXISTS (
    SELECT FROM users u WHERE (u.email = @email OR u.email_lookup = @email_lookup::text) AND u.id <> @user_id
)::boolean WHERE latchkey_on_primary();

-- SetAddress gives an account, which is locked, another address. It fails with a unique violation if another account has it.
-- name: SetAddress :execrows
UPDATE users SET email = @email, email_lookup = @email_lookup::text WHERE id = @id AND email = @old_email;

-- PutAddressBack is SetAddress for the address that the account had before. If an account with another spelling of it holds
-- the lookup form, as it did before, this account has none.
-- name: PutAddressBack :execrows
UPDATE users SET email = @email, email_lookup = CASE
    WHEN NOT EXISTS (SELECT FROM users o WHERE o.email_lookup = @email_lookup::text AND o.id <> @id) THEN @email_lookup::text
END WHERE users.id = @id;

-- KeepLookup sets the lookup form again, which a trigger for older backends removes if only the spelling of an address has
-- changed.
-- name: KeepLookup :exec
UPDATE users SET email_lookup = @email_lookup::text
WHERE users.id = @id AND users.email_lookup IS NULL
    AND NOT EXISTS (SELECT FROM users o WHERE o.email_lookup = @email_lookup::text AND o.id <> @id);

-- FindProtection reads what protects an account: the number of its password, its second factors, and its set of recovery
-- codes (zeros: it has none). Lock the account first.
-- name: FindProtection :one
SELECT coalesce((SELECT g.epoch FROM password_guards g WHERE g.user_id = @user_id), 0)::bigint AS epoch,
    ARRAY(SELECT f.id FROM factors f WHERE f.user_id = @user_id ORDER BY f.id)::uuid[] AS factors,
    coalesce((SELECT s.id FROM recovery_sets s WHERE s.user_id = @user_id), '00000000-0000-0000-0000-000000000000')::uuid AS recovery_set
WHERE latchkey_on_primary();

-- DeleteFactorsBut deletes the second factors of an account that are not among these, its recovery codes if they are another
-- set or if no factor is left, and what was counted against it.
-- name: DeleteFactorsBut :exec
WITH gone AS (
    DELETE FROM factors f WHERE f.user_id = @user_id AND f.id <> ALL (@kept::uuid[])
), enrolments AS (
    DELETE FROM totp_enrolments e WHERE e.user_id = @user_id
), failures AS (
    DELETE FROM factor_failures n WHERE n.user_id = @user_id
)
DELETE FROM recovery_sets s WHERE s.user_id = @user_id AND (
    s.id <> @kept_set::uuid OR NOT EXISTS (SELECT FROM factors f WHERE f.user_id = @user_id AND f.id = ANY (@kept::uuid[]))
);

-- CreateUndo keeps the secret that undoes a change of address. It lasts when sessions are ended. It changes no row if the
-- account has one that is alive.
-- name: CreateUndo :execrows
INSERT INTO one_time_secrets (
    user_id, purpose, asker, address, token_hash, nonce, ledger, created_at, expires_at, new_email, lasting, data
) VALUES (
    @user_id, @purpose, @asker, @address, @token_hash, @nonce::bytea, @position, @created_at, @expires_at, @new_email::text, true, @data::bytea
) ON CONFLICT (user_id, purpose, asker) DO UPDATE
SET address = excluded.address, token_hash = excluded.token_hash, nonce = excluded.nonce, ledger = excluded.ledger,
    created_at = excluded.created_at, expires_at = excluded.expires_at, new_email = excluded.new_email, data = excluded.data
WHERE one_time_secrets.expires_at <= excluded.created_at;

-- FindUndo returns the account of a token that undoes a change.
-- name: FindUndo :one
SELECT s.user_id FROM one_time_secrets s
WHERE s.purpose = @purpose AND s.token_hash = @token_hash AND s.lasting AND s.expires_at > @now::timestamptz AND latchkey_on_primary();

-- FindUndoNonce reads the values for the mail with an undo.
-- name: FindUndoNonce :one
SELECT s.nonce, s.token_hash, coalesce(s.new_email, '')::text AS new_email, s.created_at, s.expires_at FROM one_time_secrets s
WHERE s.user_id = @user_id AND s.purpose = @purpose AND s.asker = @asker AND s.lasting AND s.expires_at > @now::timestamptz
    AND latchkey_on_primary();

-- SpendUndo succeeds for one caller: the row is gone for the next. Lock the account first.
-- name: SpendUndo :one
DELETE FROM one_time_secrets
WHERE purpose = @purpose AND token_hash = @token_hash AND user_id = @user_id AND lasting AND expires_at > @now::timestamptz
RETURNING coalesce(new_email, '')::text AS new_email, address, data;
