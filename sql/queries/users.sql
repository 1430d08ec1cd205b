-- CreateUser makes no row if somebody has the address or gets it at the same time: it waits for them. Nor does it if an
-- account may take the address back (AddressReserved).
-- name: CreateUser :one
WITH created AS (
    INSERT INTO users (email, email_lookup, password_hash, first_name, last_name, created_at, updated_at)
    SELECT @email::text, @email_lookup::text, @password_hash::text, @first_name::text, @last_name::text,
        @now::timestamptz, @now::timestamptz
    WHERE NOT EXISTS (
        SELECT FROM one_time_secrets s
        WHERE s.purpose = 'undo_email_change' AND s.address = @email_lookup::text AND s.expires_at > @now::timestamptz
    )
    ON CONFLICT DO NOTHING
    RETURNING *
), noted AS (
    INSERT INTO unproved_sign_ups (user_id) SELECT id FROM created
)
SELECT * FROM created;

-- FindUserByEmail reads the account and the ledger's position in one statement: every later revocation refuses a
-- session that carries this position. The exact address wins over one in another letter case. It also reads the guards
-- of the password, the kinds of second factors, and whether there are recovery codes left.
-- name: FindUserByEmail :one
SELECT sqlc.embed(users), (SELECT seq FROM ledger_head)::bigint AS position,
    coalesce(g.epoch, 0)::bigint AS password_epoch, g.devices_since, g.reset_network, g.reset_at,
    ARRAY(SELECT DISTINCT f.kind FROM factors f WHERE f.user_id = users.id ORDER BY f.kind)::text[] AS factors,
    EXISTS (SELECT FROM recovery_codes c WHERE c.user_id = users.id AND c.spent_at IS NULL)::boolean AS recoverable
FROM users LEFT JOIN password_guards g ON g.user_id = users.id
WHERE (users.email = @email OR users.email_lookup = @email_lookup::text) AND latchkey_on_primary()
ORDER BY (users.email = @email) DESC
LIMIT 1;

-- name: FindUser :one
SELECT * FROM users WHERE id = @id AND latchkey_on_primary();

-- FindUserWithFactors reads what a login needs of an account that has proved itself otherwise than by a password.
-- name: FindUserWithFactors :one
SELECT sqlc.embed(users), coalesce(g.epoch, 0)::bigint AS password_epoch, g.devices_since,
    ARRAY(SELECT DISTINCT f.kind FROM factors f WHERE f.user_id = users.id ORDER BY f.kind)::text[] AS factors,
    EXISTS (SELECT FROM recovery_codes c WHERE c.user_id = users.id AND c.spent_at IS NULL)::boolean AS recoverable
FROM users LEFT JOIN password_guards g ON g.user_id = users.id
WHERE users.id = @id AND latchkey_on_primary();

-- LockUser takes the row's lock: users first, the ledger's head last.
-- name: LockUser :one
SELECT * FROM users WHERE id = @id FOR UPDATE;

-- FindUserAt reads an account and the ledger's position in one statement: the account stays as it was read until a
-- later row names it.
-- name: FindUserAt :one
SELECT sqlc.embed(users), (SELECT seq FROM ledger_head)::bigint AS position FROM users
WHERE id = @id AND latchkey_on_primary();

-- FindUserForSession reads the account of a session or access token. revoked is true if the ledger refuses the
-- session, key_revoked if it refuses the key that signed the token (empty: no key signed it). mark is the generation of
-- refresh tokens that Redis is known to have reached for the session, 0 if none is known.
-- name: FindUserForSession :one
SELECT sqlc.embed(users),
EXISTS (SELECT FROM latchkey_refusals(users.id, @session_id::uuid, @position::bigint, NULL))::boolean AS revoked,
EXISTS (SELECT FROM latchkey_refusals(NULL, NULL, NULL, @key_id::text))::boolean AS key_revoked,
(SELECT seq FROM ledger_head)::bigint AS position,
coalesce(m.generation, 0)::bigint AS mark, m.marked_at
FROM users LEFT JOIN session_marks m ON m.session_id = @session_id::uuid AND m.user_id = users.id
WHERE users.id = @user_id AND latchkey_on_primary();

-- RecordLogin changes nothing if the account was disabled since it was read. The right password clears the counts of
-- wrong ones by unknown clients and by its own device, but it opens no count that is closed, or that is full and about
-- to be closed. The event of the login, of Trail.Event, is in the statement: a transaction took three trips more, 0.3 ms.
-- name: RecordLogin :execrows
WITH forgotten AS (
    DELETE FROM password_failures f WHERE f.user_id = @id AND (f.kind = 'login' OR f.kind = 'device' AND f.subject = @device::uuid)
        AND f.closed_at IS NULL AND f.failures < @most::integer
), logged_in AS (
    UPDATE users SET last_login_at = @now::timestamptz WHERE id = @id AND is_active RETURNING id
)
INSERT INTO audit_events (created_at, kind, user_id, session_id, address, trace_id, call_id, actor)
SELECT @now::timestamptz, @kind, logged_in.id, @session_id::uuid, @address, @trace_id, @call_id, @actor FROM logged_in;

-- RehashPassword replaces only the hash that was verified: a plain update would bring an old password back. A setting,
-- which lasts for its transaction, says to the ledger's trigger that the password stays the same.
-- name: RehashPassword :execrows
UPDATE users SET password_hash = @new_hash
WHERE id = @id AND password_hash = @old_hash AND set_config('latchkey.rehash', @id::text, true) IS NOT NULL;

-- ProveAddress marks the address as proved by somebody who also knows the password or has a session.
-- name: ProveAddress :one
WITH proved AS (
    DELETE FROM unproved_sign_ups WHERE user_id = @id
)
UPDATE users SET is_verified = true WHERE id = @id RETURNING *;

-- TakeBack marks the address as proved by somebody who has nothing else of the account, sets the password, and removes
-- names that a client typed at a sign-up.
-- name: TakeBack :exec
WITH planted AS (
    DELETE FROM unproved_sign_ups s WHERE s.user_id = @id RETURNING s.user_id
)
UPDATE users u SET password_hash = @password_hash, is_verified = true,
    first_name = CASE WHEN EXISTS (SELECT FROM planted) THEN '' ELSE u.first_name END,
    last_name = CASE WHEN EXISTS (SELECT FROM planted) THEN '' ELSE u.last_name END
WHERE u.id = @id;

-- SetPassword also marks the address as verified: the caller held a mailed token.
-- name: SetPassword :exec
UPDATE users SET password_hash = @password_hash, is_verified = true WHERE id = @id;

-- ChangePassword replaces only the hash that was verified.
-- name: ChangePassword :execrows
UPDATE users SET password_hash = @new_hash WHERE id = @id AND password_hash = @old_hash;

-- SampleHashSettings counts the kinds and parameters of up to 10,000 stored hashes:
-- the text before the salt, and no part of salt or key. The pattern is that of
-- password.SettingPattern, which knows every kind. Ids are random, so the
-- first ones by id are a fair sample at the cost of an index read. The 100 most
-- frequent are enough: an import of hostile hashes must not make the list long.
-- OFFSET 0 keeps the pattern, which is most of the cost, from being matched twice.
-- name: SampleHashSettings :many
SELECT setting::text, count(*) AS weight
FROM (
    SELECT substring(password_hash FROM @pattern::text) AS setting
    FROM (SELECT password_hash FROM users ORDER BY id LIMIT 10000) AS sample
    OFFSET 0
) AS settings
WHERE setting IS NOT NULL
GROUP BY setting
ORDER BY weight DESC, setting
LIMIT 100;

-- name: RenameUser :exec
UPDATE users SET first_name = @first_name, last_name = @last_name WHERE id = @id;

-- NoteHashSettings notes what SampleHashSettings has counted.
-- name: NoteHashSettings :exec
INSERT INTO hash_settings (settings, weights, counted_at) VALUES (@settings::text[], @weights::bigint[], now())
ON CONFLICT (only_row) DO UPDATE
SET settings = excluded.settings, weights = excluded.weights, counted_at = excluded.counted_at;

-- NotedHashSettings returns what was counted last, and how long ago that was.
-- name: NotedHashSettings :one
SELECT settings, weights, extract(epoch FROM now() - counted_at)::double precision AS age_seconds FROM hash_settings
WHERE latchkey_on_primary();

-- SetUserActive changes the status; the row is locked from then on.
-- name: SetUserActive :one
UPDATE users SET is_active = @is_active WHERE id = @id RETURNING *;

-- ListUsers reads a page of accounts, newest first, after the last one of the page before.
-- name: ListUsers :many
SELECT * FROM users
WHERE (created_at, id) < (@before::timestamptz, @before_id::uuid) AND latchkey_on_primary()
ORDER BY created_at DESC, id DESC
LIMIT @page_size;
