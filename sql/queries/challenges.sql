-- CreateChallenge makes the row of a challenge, unless the account is gone or has @most challenges of the purpose that are
-- good; then free_at is when the first of them expires. The lock waits for a deletion that is under way.
-- name: CreateChallenge :one
WITH owner AS MATERIALIZED (
    SELECT users.id FROM users WHERE users.id = @user_id::uuid FOR KEY SHARE
), open AS (
    SELECT count(*) AS challenges, min(c.expires_at) AS free_at FROM challenges c
    WHERE c.user_id = @user_id::uuid AND c.purpose = @purpose AND c.expires_at > @created_at::timestamptz
), created AS (
    INSERT INTO challenges (token_hash, purpose, user_id, session_id, ledger, data, created_at, expires_at)
    SELECT @token_hash, @purpose, owner.id, @session_id::uuid, @position, @data::bytea, @created_at::timestamptz, @expires_at
    FROM owner, open WHERE open.challenges < @most::integer
    RETURNING user_id
)
SELECT EXISTS (SELECT FROM owner)::boolean AS present, EXISTS (SELECT FROM created)::boolean AS created,
    coalesce(open.free_at, @created_at::timestamptz)::timestamptz AS free_at
FROM open;

-- TryChallenge counts an answer before it is looked at, so that none is free, and reads what the check of the answer
-- needs. It finds nothing if the challenge is unknown, spent, expired or was answered too often, or if the account is not
-- active or its sessions were ended since then. The account is locked before the challenge, as a deletion does it.
-- name: TryChallenge :one
WITH owner AS MATERIALIZED (
    SELECT u.id FROM challenges c JOIN users u ON u.id = c.user_id WHERE c.token_hash = @token_hash FOR KEY SHARE OF u
), tried AS (
    UPDATE challenges c SET tries = c.tries + 1 FROM owner
    WHERE c.token_hash = @token_hash AND c.user_id = owner.id AND c.purpose = @purpose AND c.tries < @most::integer AND c.expires_at > @now::timestamptz
    RETURNING c.user_id, c.ledger, c.data
)
SELECT sqlc.embed(users), tried.data, tried.ledger::bigint AS position
FROM tried JOIN users ON users.id = tried.user_id
WHERE users.is_active AND NOT latchkey_ended_since(users.id, tried.ledger);

-- SpendChallenge succeeds for one caller: the row is gone for the next.
-- name: SpendChallenge :execrows
DELETE FROM challenges
WHERE token_hash = @token_hash AND purpose = @purpose AND user_id = @user_id AND expires_at > @now::timestamptz
    AND NOT latchkey_ended_since(user_id, ledger);

-- TryLoginCode counts a code that answers the challenge of a login, before it is looked at, so that none is free: in the
-- row of the challenge, which the first answer makes, and as CountFactorFailure does it. It reads what the check of the code
-- needs. It finds nothing if the challenge is spent or was answered too often, or if the account is gone or its sessions were
-- ended since then; and it counts nothing (failures is 0) for an account that may not log in, or has too many wrong codes,
-- so the rows of an account are as few as its wrong codes. tried is false if another call has spent the challenge meanwhile,
-- or has used up its answers. The account is active, or is to be deleted: then the answer may cancel that. The account is
-- locked first, the counts next, the challenge last.
-- name: TryLoginCode :one
WITH live AS MATERIALIZED (
    SELECT u.id FROM users u LEFT JOIN challenges c ON c.token_hash = @token_hash
    WHERE u.id = @user_id AND (u.is_active OR EXISTS (SELECT FROM account_deletions d WHERE d.user_id = u.id AND NOT d.suspended))
        AND (c.token_hash IS NULL OR NOT c.spent AND c.tries < @most::integer) AND NOT latchkey_ended_since(u.id, @position)
    FOR KEY SHARE OF u
), counted AS MATERIALIZED (
    SELECT CASE WHEN u.is_active OR @keeps_account::boolean THEN latchkey_count_code(
        u.id, @device_id::uuid, coalesce(g.epoch, 0), @now::timestamptz, @most_wrong, @many, @most_together, @ago, @long_ago
    ) ELSE 0 END AS failures
    FROM live JOIN users u ON u.id = live.id LEFT JOIN password_guards g ON g.user_id = u.id
), tried AS (
    INSERT INTO challenges AS c (token_hash, purpose, user_id, ledger, tries, created_at, expires_at)
    SELECT @token_hash, @purpose, live.id, @position, 1, @now::timestamptz, @expires_at FROM live, counted WHERE counted.failures > 0
    ON CONFLICT (token_hash) DO UPDATE SET tries = c.tries + 1 WHERE c.tries < @most::integer AND NOT c.spent
    RETURNING c.user_id
)
SELECT sqlc.embed(users), coalesce(g.epoch, 0)::bigint AS password_epoch, g.devices_since,
    counted.failures::integer AS failures, EXISTS (SELECT FROM tried)::boolean AS tried,
    app.id AS app_id, coalesce(t.sealed_seed, '')::bytea AS sealed_seed, coalesce(t.last_step, 0)::bigint AS last_step
FROM counted JOIN live ON true JOIN users ON users.id = live.id LEFT JOIN password_guards g ON g.user_id = users.id
    LEFT JOIN factors app ON app.user_id = users.id AND app.kind = 'totp' LEFT JOIN totp_factors t ON t.factor_id = app.id;

-- TakeChallenge spends the challenge of a session, for one caller, and returns what the check of the answer needs.
-- name: TakeChallenge :one
DELETE FROM challenges
WHERE token_hash = @token_hash AND purpose = @purpose AND user_id = @user_id::uuid AND session_id = @session_id::uuid
    AND expires_at > @now::timestamptz AND NOT latchkey_ended_since(user_id, ledger)
RETURNING data;

-- SpendOnce notes that a challenge is spent which is in its token, sealed. spent is true for one caller, and present unless the
-- account is gone. With @ends_with_sessions, spent is false if the account's sessions were ended since @position; that of a
-- login by passkey is of no account until it is answered, so nothing ends it. The lock waits for a deletion that is under way.
-- name: SpendOnce :one
WITH owner AS MATERIALIZED (
    SELECT users.id FROM users WHERE users.id = @user_id FOR KEY SHARE
), spent AS (
    INSERT INTO challenges AS c (token_hash, purpose, user_id, ledger, created_at, expires_at, spent)
    SELECT @token_hash, @purpose, owner.id, @position, @created_at, @expires_at, true FROM owner
    WHERE NOT (@ends_with_sessions::boolean AND latchkey_ended_since(owner.id, @position))
    ON CONFLICT (token_hash) DO UPDATE SET spent = true WHERE NOT c.spent
    RETURNING c.token_hash
)
SELECT EXISTS (SELECT FROM owner) AS present, EXISTS (SELECT FROM spent) AS spent;

-- name: DeleteExpiredChallenges :execrows
DELETE FROM challenges WHERE token_hash IN (
    SELECT c.token_hash FROM challenges c WHERE c.expires_at <= @now::timestamptz LIMIT 5000
);
