-- name: CreateFactor :exec
INSERT INTO factors (id, user_id, kind, name, created_at, last_used_at) VALUES (@id, @user_id, @kind, @name, @now, @now);

-- ListFactors lists the second factors of an account, the oldest first.
-- name: ListFactors :many
SELECT * FROM factors WHERE user_id = @user_id AND latchkey_on_primary() ORDER BY created_at, id;

-- DeleteFactorsOfKind deletes the factors of a kind.
-- name: DeleteFactorsOfKind :execrows
DELETE FROM factors WHERE user_id = @user_id AND kind = @kind;

-- DeleteFactors deletes all second factors of an account, its recovery codes and what was counted against it. It says
-- how many factors there were.
-- name: DeleteFactors :one
WITH gone AS (
    DELETE FROM factors f WHERE f.user_id = @user_id RETURNING f.id
), enrolments AS (
    DELETE FROM totp_enrolments e WHERE e.user_id = @user_id
), sets AS (
    DELETE FROM recovery_sets s WHERE s.user_id = @user_id
), failures AS (
    DELETE FROM factor_failures n WHERE n.user_id = @user_id
)
SELECT count(*) FROM gone;

-- name: PutTotpEnrolment :exec
INSERT INTO totp_enrolments (user_id, session_id, factor_id, sealed_seed, expires_at)
VALUES (@user_id, @session_id, @factor_id, @sealed_seed, @expires_at)
ON CONFLICT (user_id, session_id) DO UPDATE
SET factor_id = excluded.factor_id, sealed_seed = excluded.sealed_seed, expires_at = excluded.expires_at;

-- name: FindTotpEnrolment :one
SELECT factor_id, sealed_seed FROM totp_enrolments
WHERE user_id = @user_id AND session_id = @session_id AND expires_at > @now::timestamptz AND latchkey_on_primary();

-- TakeTotpEnrolment succeeds for one caller.
-- name: TakeTotpEnrolment :execrows
DELETE FROM totp_enrolments
WHERE user_id = @user_id AND session_id = @session_id AND factor_id = @factor_id AND expires_at > @now::timestamptz;

-- name: DeleteExpiredEnrolments :execrows
DELETE FROM totp_enrolments WHERE expires_at <= @now::timestamptz;

-- name: CreateTotp :exec
INSERT INTO totp_factors (factor_id, sealed_seed, last_step) VALUES (@factor_id, @sealed_seed, @step);

-- AnswerTotp uses the code of a step up, for one caller: of several with the same code, or an older one, the others change
-- no row. For that caller it spends the challenge that the code answers (the one of a login; NULL: there is none) and takes
-- back what was counted. A code is used up only with its challenge. It is one statement, because each trip of a transaction is
-- a tenth of a millisecond of the login. The account is locked first, the counts next, the challenge and the app last.
-- name: AnswerTotp :one
WITH owner AS MATERIALIZED (
    SELECT u.id FROM users u WHERE u.id = @user_id::uuid FOR KEY SHARE
), held AS MATERIALIZED ( -- in the order of latchkey_count_code
    SELECT l.subject FROM owner JOIN factor_failures l ON l.user_id = owner.id
    WHERE l.subject = ANY (@subjects::uuid[]) AND l.epoch = @epoch ORDER BY l.subject DESC FOR UPDATE OF l
), live AS MATERIALIZED (
    SELECT c.token_hash FROM owner JOIN challenges c ON c.user_id = owner.id
    WHERE (SELECT count(*) FROM held) >= 0 AND c.token_hash = sqlc.narg(challenge)::bytea AND c.purpose = @purpose AND NOT c.spent
        AND NOT latchkey_ended_since(c.user_id, c.ledger)
    FOR UPDATE OF c
), accepted AS (
    UPDATE totp_factors t SET last_step = @step
    WHERE t.factor_id = @factor_id AND t.last_step < @step AND (sqlc.narg(challenge)::bytea IS NULL OR EXISTS (SELECT FROM live))
    RETURNING t.factor_id
), spent AS (
    UPDATE challenges c SET spent = true FROM live, accepted WHERE c.token_hash = live.token_hash
), used AS (
    UPDATE factors f SET last_used_at = @now::timestamptz FROM accepted WHERE f.id = accepted.factor_id
), uncounted AS (
    UPDATE factor_failures n SET failures = greatest(n.failures - 1, 0), in_a_row = 0
    FROM held, accepted WHERE n.user_id = @user_id AND n.subject = held.subject
)
SELECT EXISTS (SELECT FROM live)::boolean AS live, EXISTS (SELECT FROM accepted)::boolean AS accepted;

-- ReplaceRecoverySet makes an account's set of recovery codes. The codes of the set before are deleted first.
-- name: ReplaceRecoverySet :exec
INSERT INTO recovery_sets (user_id, id, sealed_key, created_at) VALUES (@user_id, @id, @sealed_key, @now);

-- name: DeleteRecoverySet :execrows
DELETE FROM recovery_sets WHERE user_id = @user_id;

-- name: CreateRecoveryCodes :exec
INSERT INTO recovery_codes (user_id, code_hash) SELECT @user_id, unnest(@code_hashes::bytea[]);

-- FindRecoverySet reads an account's set of recovery codes, and how many are left.
-- name: FindRecoverySet :one
SELECT s.id, s.sealed_key, s.created_at, s.last_used_at,
    (SELECT count(*) FROM recovery_codes c WHERE c.user_id = s.user_id AND c.spent_at IS NULL)::integer AS remaining
FROM recovery_sets s WHERE s.user_id = @user_id AND latchkey_on_primary();

-- SpendRecoveryCode spends a code, for one caller.
-- name: SpendRecoveryCode :execrows
WITH spent AS (
    UPDATE recovery_codes c SET spent_at = @now::timestamptz
    WHERE c.user_id = @user_id AND c.code_hash = @code_hash AND c.spent_at IS NULL RETURNING c.user_id
)
UPDATE recovery_sets s SET last_used_at = @now::timestamptz FROM spent WHERE s.user_id = spent.user_id;

-- CountFactorFailure counts a failure before the code is compared, so that no guess is free: see latchkey_count_code. It
-- also reads the account's authenticator app, if it has one.
-- name: CountFactorFailure :one
SELECT counted.failures::integer AS failures, app.id AS app_id, coalesce(t.sealed_seed, '')::bytea AS sealed_seed, coalesce(t.last_step, 0)::bigint AS last_step
FROM latchkey_count_code(
    @user_id::uuid, @subject::uuid, @epoch::bigint, @now::timestamptz, @most_wrong::integer, @many::integer, @most_together::integer,
    @ago::timestamptz, @long_ago::timestamptz
) AS counted (failures)
    LEFT JOIN factors app ON app.user_id = @user_id AND app.kind = 'totp' LEFT JOIN totp_factors t ON t.factor_id = app.id;

-- name: FindFactorFailures :many
SELECT subject, since, failures, in_a_row FROM factor_failures
WHERE user_id = @user_id AND subject = ANY (@subjects::uuid[]) AND latchkey_on_primary();

-- UncountFactorFailure takes back what CountFactorFailure has counted, because the code was right, or was not compared.
-- The account is locked first, and the rows in the order of latchkey_count_code.
-- name: UncountFactorFailure :exec
WITH owner AS MATERIALIZED (
    SELECT u.id FROM users u WHERE u.id = @user_id::uuid FOR KEY SHARE
), held AS MATERIALIZED (
    SELECT l.subject FROM owner JOIN factor_failures l ON l.user_id = owner.id
    WHERE l.subject = ANY (@subjects::uuid[]) AND l.epoch = @epoch ORDER BY l.subject DESC FOR UPDATE OF l
)
UPDATE factor_failures n SET failures = greatest(n.failures - 1, 0), in_a_row = CASE WHEN @was_right::boolean THEN 0 ELSE greatest(n.in_a_row - 1, 0) END
FROM held WHERE n.user_id = @user_id AND n.subject = held.subject;

-- name: DeleteOldFactorFailures :execrows
DELETE FROM factor_failures WHERE since < @before::timestamptz;

-- FindForeignSeeds reads seeds that were not sealed with the current key.
-- name: FindForeignSeeds :many
SELECT factor_id, sealed_seed FROM totp_factors
WHERE substring(sealed_seed FROM 1 FOR 5) <> @head::bytea AND factor_id > @after AND latchkey_on_primary()
ORDER BY factor_id LIMIT 500;

-- name: ResealSeed :execrows
UPDATE totp_factors SET sealed_seed = @resealed WHERE factor_id = @factor_id AND sealed_seed = @sealed;

-- FindForeignRecoveryKeys reads keys of recovery codes that were not sealed with the current key.
-- name: FindForeignRecoveryKeys :many
SELECT user_id, id, sealed_key FROM recovery_sets
WHERE substring(sealed_key FROM 1 FOR 5) <> @head::bytea AND user_id > @after AND latchkey_on_primary()
ORDER BY user_id LIMIT 500;

-- name: ResealRecoveryKey :execrows
UPDATE recovery_sets SET sealed_key = @resealed WHERE user_id = @user_id AND sealed_key = @sealed;

-- HasFactors says whether an account has a second factor.
-- name: HasFactors :one
SELECT EXISTS (SELECT FROM factors WHERE user_id = @user_id)::boolean WHERE latchkey_on_primary();

-- ListUsersByFactor is ListUsers for accounts with a second factor of a kind.
-- name: ListUsersByFactor :many
SELECT * FROM users
WHERE (created_at, id) < (@before::timestamptz, @before_id::uuid)
    AND EXISTS (SELECT FROM factors f WHERE f.kind = @kind AND f.user_id = users.id) AND latchkey_on_primary()
ORDER BY created_at DESC, id DESC
LIMIT @page_size;

-- ListUsersByRecoveryCodes is ListUsers for accounts with recovery codes.
-- name: ListUsersByRecoveryCodes :many
SELECT * FROM users
WHERE (created_at, id) < (@before::timestamptz, @before_id::uuid)
    AND EXISTS (SELECT FROM recovery_sets s WHERE s.user_id = users.id) AND latchkey_on_primary()
ORDER BY created_at DESC, id DESC
LIMIT @page_size;
