-- CreateChallenge makes the row of a challenge, unless the account is gone or has @most challenges of the purpose that are
-- good; then free_at is when the first of them expires. The lock waits for a deletion that is under way. It also says
-- whether the account has recovery codes left.
-- name: CreateChallenge :one
WITH owner AS MATERIALIZED (
    SELECT users.id FROM users WHERE users.id = @user_id::uuid FOR KEY SHARE
), open AS (
    SELECT count(*) AS challenges, min(c.expires_at) AS free_at FROM challenges c
    WHERE c.user_id = @user_id::uuid AND c.purpose = @purpose AND c.expires_at > @created_at::timestamptz
), created AS (
    INSERT INTO challenges (token_hash, purpose, user_id, session_id, device_id, ledger, first_amr, data, created_at, expires_at)
    SELECT @token_hash, @purpose, owner.id, sqlc.narg(session_id)::uuid, sqlc.narg(device_id)::uuid, @position, coalesce(@first_amr::text[], '{}'),
        sqlc.narg(data)::bytea, @created_at::timestamptz, @expires_at
    FROM owner, open WHERE open.challenges < @most::integer
    RETURNING user_id
)
SELECT EXISTS (SELECT FROM owner)::boolean AS present, EXISTS (SELECT FROM created)::boolean AS created,
    coalesce(open.free_at, @created_at::timestamptz)::timestamptz AS free_at,
    EXISTS (SELECT FROM recovery_codes c WHERE c.user_id = @user_id::uuid AND c.spent_at IS NULL)::boolean AS recoverable
FROM open;

-- TryChallenge counts an answer before it is looked at, so that none is free, and reads what the check of the answer
-- needs. It finds nothing if the challenge is unknown, spent, expired or was answered too often, or if the account's
-- sessions were ended since then. The account is active, or is to be deleted: then the answer may cancel that. A code,
-- which can be guessed, is also counted as CountFactorFailure does it, if the account is one that may log in. The
-- account is locked before the challenge, as a deletion does it.
-- name: TryChallenge :one
WITH owner AS MATERIALIZED (
    SELECT u.id FROM challenges c JOIN users u ON u.id = c.user_id WHERE c.token_hash = @token_hash FOR KEY SHARE OF u
), tried AS (
    UPDATE challenges c SET tries = c.tries + 1 FROM owner
    WHERE c.token_hash = @token_hash AND c.user_id = owner.id AND c.purpose = @purpose AND c.tries < @most::integer AND c.expires_at > @now::timestamptz
    RETURNING c.user_id, c.device_id, c.ledger, c.first_amr, c.data
)
SELECT sqlc.embed(users), tried.device_id, tried.first_amr, tried.data, tried.ledger::bigint AS position,
    coalesce(g.epoch, 0)::bigint AS password_epoch, g.devices_since,
    CASE WHEN @is_code::boolean AND (users.is_active OR @keeps_account::boolean) THEN latchkey_count_code(
        users.id, coalesce(tried.device_id, '00000000-0000-0000-0000-000000000000'), coalesce(g.epoch, 0), @now, @most_wrong, @many, @most_together, @ago, @long_ago
    ) ELSE 0 END::integer AS failures,
    app.id AS app_id, coalesce(t.sealed_seed, '')::bytea AS sealed_seed, coalesce(t.last_step, 0)::bigint AS last_step
FROM tried JOIN users ON users.id = tried.user_id LEFT JOIN password_guards g ON g.user_id = users.id
    LEFT JOIN factors app ON app.user_id = users.id AND app.kind = 'totp' LEFT JOIN totp_factors t ON t.factor_id = app.id
WHERE NOT latchkey_ended_since(users.id, tried.ledger)
    AND (users.is_active OR EXISTS (SELECT FROM account_deletions d WHERE d.user_id = users.id AND NOT d.suspended));

-- SpendChallenge succeeds for one caller: the row is gone for the next.
-- name: SpendChallenge :execrows
DELETE FROM challenges
WHERE token_hash = @token_hash AND purpose = @purpose AND user_id = @user_id AND expires_at > @now::timestamptz
    AND NOT latchkey_ended_since(user_id, ledger);

-- TakeChallenge spends the challenge of a session, for one caller, and returns what the check of the answer needs.
-- name: TakeChallenge :one
DELETE FROM challenges
WHERE token_hash = @token_hash AND purpose = @purpose AND user_id = @user_id::uuid AND session_id = @session_id::uuid
    AND expires_at > @now::timestamptz AND NOT latchkey_ended_since(user_id, ledger)
RETURNING data;

-- SpendOnce notes that a challenge of which nothing was stored is spent. spent is true for one caller, and present unless
-- the account is gone. The lock waits for a deletion that is under way.
-- name: SpendOnce :one
WITH owner AS MATERIALIZED (
    SELECT users.id FROM users WHERE users.id = @user_id FOR KEY SHARE
), spent AS (
    INSERT INTO challenges (token_hash, purpose, user_id, ledger, created_at, expires_at)
    SELECT @token_hash, @purpose, owner.id, @position, @created_at, @expires_at FROM owner
    ON CONFLICT (token_hash) DO NOTHING
    RETURNING token_hash
)
SELECT EXISTS (SELECT FROM owner) AS present, EXISTS (SELECT FROM spent) AS spent;

-- name: DeleteExpiredChallenges :execrows
DELETE FROM challenges WHERE token_hash IN (
    SELECT c.token_hash FROM challenges c WHERE c.expires_at <= @now::timestamptz LIMIT 5000
);
