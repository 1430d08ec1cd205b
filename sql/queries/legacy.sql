-- name: LegacySpent :one
SELECT EXISTS (SELECT FROM legacy_spent WHERE token_hash = @token_hash) WHERE latchkey_on_primary();

-- SpendLegacyToken succeeds for one caller. A second caller with the same token waits for the end of the first one's
-- transaction: if that fails, the token is good again.
-- name: SpendLegacyToken :execrows
INSERT INTO legacy_spent (token_hash, kind, user_id, session_id, request_hash, spent_at, keep_until)
VALUES (
    @token_hash, @kind, @user_id, sqlc.narg(session_id)::uuid, sqlc.narg(request_hash)::bytea,
    @spent_at, @keep_until
)
ON CONFLICT (token_hash) DO NOTHING;

-- name: NoteLegacyAnswer :exec
UPDATE legacy_spent SET answer_hash = @answer_hash::bytea WHERE token_hash = @token_hash;

-- FindLegacyTrade returns the result of the trade of a refresh token.
-- name: FindLegacyTrade :one
SELECT session_id, request_hash, answer_hash, spent_at
FROM legacy_spent WHERE token_hash = @token_hash AND kind = 'refresh' AND latchkey_on_primary();

-- FindLegacyReset returns the account whose password a reset token of an older backend may set. Such a token lives for
-- that many seconds at most and does not say since when. It is good only if its owner asked for it after the account's
-- sessions were last ended. So a row of the ledger that ends them within that time refuses it (every change of the
-- password or the status leaves such a row), and so does a change of the address, to which the token was mailed. If a
-- token lives longer than either backend allows (is_undated), its age is unknown, so every such row refuses it.
-- name: FindLegacyReset :one
SELECT * FROM users u
WHERE u.id = @user_id AND u.is_active AND latchkey_on_primary()
    AND NOT EXISTS (SELECT FROM legacy_spent s WHERE s.token_hash = @token_hash)
    AND NOT EXISTS (
        SELECT FROM revocations r
        WHERE r.kind = 'user' AND r.user_id = u.id
            AND (r.created_at > now() - make_interval(secs => @reset_life_seconds::double precision) OR @is_undated::boolean)
    )
    AND NOT EXISTS (
        SELECT FROM revocations r
        WHERE r.kind = 'all' AND (r.created_at > now() - make_interval(secs => @reset_life_seconds::double precision) OR @is_undated::boolean)
    )
    AND NOT EXISTS (
        SELECT FROM address_changes c
        WHERE c.user_id = u.id AND (c.changed_at > now() - make_interval(secs => @reset_life_seconds::double precision) OR @is_undated::boolean)
    );

-- DeleteOldLegacySpent deletes a batch of tokens that are refused because of their age.
-- name: DeleteOldLegacySpent :execrows
DELETE FROM legacy_spent WHERE token_hash IN (
    SELECT token_hash FROM legacy_spent WHERE keep_until <= @now::timestamptz ORDER BY keep_until LIMIT 5000
);

-- PositionOfOlderToken returns the position in the ledger for a token of an older backend, which carries none and says
-- only when it was issued. It is one below the first row that ended the account's sessions and is not surely older than
-- the token, or the head if there is no such row. A later row is above it, whatever its time.
-- name: PositionOfOlderToken :one
SELECT coalesce(least(
    (SELECT min(r.seq) FROM revocations r WHERE r.kind = 'user' AND r.user_id = @user_id::uuid AND r.created_at >= @surely_later_than::timestamptz),
    (SELECT min(r.seq) FROM revocations r WHERE r.kind = 'all' AND r.created_at >= @surely_later_than::timestamptz)
) - 1, h.seq)::bigint AS position, clock_timestamp()::timestamptz AS database_time
FROM ledger_head h WHERE latchkey_on_primary();
