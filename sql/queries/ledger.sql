-- AppendSessionRevocations appends a row for each session, with its audit event, in one statement, which is one
-- transaction and one flush. It returns the position of the last row. A session that has its row gets no second one,
-- even if its end is asked for again: the caller then waits for the head, which is at that row or past it. The rows are
-- kept for the longest life that any replica gives a session: the replica that appends may have a shorter setting, or a
-- slow clock.
-- name: AppendSessionRevocations :one
WITH asked AS (
    SELECT unnest(@session_ids::uuid[]) AS session_id, unnest(@user_ids::uuid[]) AS user_id, unnest(@kinds::text[]) AS kind,
        unnest(@addresses::text[]) AS address, unnest(@trace_ids::text[]) AS trace_id,
        unnest(@call_ids::text[]) AS call_id, unnest(@actors::text[]) AS actor
), fresh AS (
    SELECT DISTINCT ON (session_id, user_id) * FROM asked
    WHERE NOT EXISTS (
        SELECT FROM revocations r
        WHERE r.kind = 'session' AND r.session_id = asked.session_id AND r.user_id = asked.user_id
    )
), noted AS (
    INSERT INTO audit_events (created_at, kind, user_id, session_id, address, trace_id, call_id, actor)
    SELECT @now::timestamptz, kind, user_id, session_id, address, trace_id, call_id, actor FROM fresh
)
SELECT coalesce(
    max(latchkey_append_revocation('session', session_id, user_id, NULL, NULL, NULL)),
    (SELECT seq FROM ledger_head)
)::bigint FROM fresh;

-- AppendUserRevocation ends all sessions of an account except the given one. Lock the account first.
-- name: AppendUserRevocation :one
SELECT latchkey_append_revocation('user', NULL, @user_id::uuid, sqlc.narg(except_session_id)::uuid, NULL, NULL)::bigint;

-- name: AppendAllRevocation :one
SELECT latchkey_append_revocation('all', NULL, NULL, NULL, NULL, NULL)::bigint;

-- name: AppendKeyRevocation :one
SELECT latchkey_append_revocation('key', NULL, NULL, NULL, @key_id::text, NULL)::bigint;

-- name: AppendKeysChanged :one
SELECT latchkey_append_revocation('keys_changed', NULL, NULL, NULL, NULL, now() + interval '1 hour')::bigint;

-- SessionRevoked says whether a session was ended, and up to which position that is known.
-- name: SessionRevoked :one
SELECT EXISTS (SELECT FROM revocations WHERE kind = 'session' AND session_id = @session_id::uuid) AS revoked,
    (SELECT seq FROM ledger_head)::bigint AS position
WHERE latchkey_on_primary();

-- SessionOfUserRevoked is SessionRevoked for one account: a row counts only if account and session match.
-- name: SessionOfUserRevoked :one
SELECT EXISTS (
        SELECT FROM revocations WHERE kind = 'session' AND session_id = @session_id::uuid AND user_id = @user_id::uuid
    ) AS revoked,
    (SELECT seq FROM ledger_head)::bigint AS position
WHERE latchkey_on_primary();

-- RevokedSessions returns the sessions among these that the ledger refuses for an account. Pass each with its own
-- position.
-- name: RevokedSessions :many
SELECT asked.session_id::uuid
FROM (SELECT unnest(@session_ids::uuid[]) AS session_id, unnest(@positions::bigint[]) AS position) AS asked
WHERE latchkey_on_primary()
    AND EXISTS (SELECT FROM latchkey_refusals(@user_id::uuid, asked.session_id, asked.position, NULL));

-- name: LedgerHead :one
SELECT seq FROM ledger_head WHERE latchkey_on_primary();

-- LockLedger keeps every revocation from being committed until this transaction ends, and returns the position of the
-- newest one.
-- name: LockLedger :one
SELECT seq FROM ledger_head WHERE latchkey_on_primary() FOR UPDATE;

-- RaiseLives makes the ledger keep rows for the longest setting of any replica.
-- name: RaiseLives :exec
UPDATE ledger_head
SET session_life = greatest(session_life, make_interval(secs => @session_seconds::double precision)),
    access_life = greatest(access_life, make_interval(secs => @access_seconds::double precision))
WHERE session_life < make_interval(secs => @session_seconds::double precision)
    OR access_life < make_interval(secs => @access_seconds::double precision);

-- KeepForLegacy makes the ledger keep rows that can refuse a token of an older backend for as long as such tokens are
-- accepted.
-- name: KeepForLegacy :exec
SELECT latchkey_keep_for_legacy(@until::timestamptz);

-- JoinReplica comes before the first reading: from then on, calls that revoke wait for this row. The version of its id
-- says what the replica can read (ConfirmReplica).
-- name: JoinReplica :exec
INSERT INTO replicas (id, applied_seq, lease_ms) VALUES (@id, 0, @lease_ms);

-- ConfirmReplica reads the head and the replica's own row in one snapshot, which must be the primary's. known says
-- whether the row that the replica applied last still has this tip, and short_only whether there is a replica that reads
-- only short refresh tokens: the ids of such releases are of version 4, later ones are of version 8, whose bits are free
-- for own uses (RFC 9562). That needs no column.
-- name: ConfirmReplica :one
SELECT h.seq, h.tip,
    extract(epoch FROM h.access_life)::double precision AS access_life_seconds,
    h.legacy_until, h.forgotten_at,
    clock_timestamp()::timestamptz AS database_time,
    EXISTS (SELECT FROM replicas r WHERE r.id = @id AND r.leaving_since IS NULL) AS joined,
    EXISTS (SELECT FROM replicas r WHERE get_byte(uuid_send(r.id), 6) < 128) AS short_only,
    EXISTS (SELECT FROM revocations v WHERE v.seq = @applied_seq AND v.tip = @applied_tip) AS known
FROM ledger_head h
WHERE latchkey_on_primary();

-- RevocationsAfter reads one page of the rows after a position. A page that is not full is the last one.
-- name: RevocationsAfter :many
SELECT * FROM revocations WHERE seq > @seq AND latchkey_on_primary() ORDER BY seq LIMIT @page::integer;

-- RevocationsInForce reads one page of the rows after a position that can still refuse an access token. Tokens from
-- before have expired, except those of older backends, which may live for any time. The two minutes are for clocks that
-- differ and for long transactions. A page that is not full is the last one.
--
-- The first page (position 0) begins at the lowest position among the rows of that time. Without that, it would read
-- all rows of a month to find those of 17 minutes: a second for a million. Not at the position of the earliest such
-- row: if the clock was set back, a lower position can have a later time. OFFSET 0 keeps the planner from walking
-- through all positions to find the lowest.
-- name: RevocationsInForce :many
SELECT v.* FROM revocations v, ledger_head h
WHERE latchkey_on_primary()
    AND v.seq > CASE WHEN @seq::bigint > 0 THEN @seq::bigint ELSE (
        SELECT CASE WHEN g.legacy_until > now() - interval '2 minutes' THEN 0 ELSE coalesce((
            SELECT min(recent.seq) - 1 FROM (
                SELECT r.seq FROM revocations r
                WHERE r.created_at > now() - g.access_life - interval '2 minutes' OFFSET 0
            ) AS recent
        ), g.seq) END FROM ledger_head g
    ) END
    AND (
        v.created_at > now() - h.access_life - interval '2 minutes'
        OR (h.legacy_until > now() - interval '2 minutes' AND latchkey_reaches_legacy(v.kind, v.session_id))
    )
ORDER BY v.seq LIMIT @page::integer;

-- name: SetReplicaApplied :exec
UPDATE replicas SET applied_seq = @applied_seq WHERE id = @id AND leaving_since IS NULL;

-- name: LeaveReplica :exec
DELETE FROM replicas WHERE id = @id;

-- name: ListReplicas :many
SELECT id, applied_seq, lease_ms, (leaving_since IS NOT NULL)::boolean AS leaving FROM replicas
WHERE latchkey_on_primary();

-- ExpelReplicas marks replicas that fell behind: they must not trust their memory.
-- name: ExpelReplicas :exec
UPDATE replicas SET leaving_since = now()
WHERE id = ANY (@ids::uuid[]) AND applied_seq < @seq AND leaving_since IS NULL;

-- DeleteReplicas deletes rows that were marked a lease ago.
-- name: DeleteReplicas :exec
DELETE FROM replicas WHERE id = ANY (@ids::uuid[]) AND leaving_since IS NOT NULL;

-- DeleteOldRevocations deletes a batch of rows that say nothing new and cannot refuse a token of an older backend. The
-- newest row stays: its tip tells one history from another.
-- name: DeleteOldRevocations :execrows
DELETE FROM revocations WHERE seq IN (
    SELECT v.seq FROM revocations v, ledger_head h
    WHERE v.keep_until < now() AND v.seq < h.seq AND NOT latchkey_reaches_legacy(v.kind, v.session_id)
    ORDER BY v.keep_until LIMIT 5000
);

-- DeleteOldCutoffs deletes a batch of the other rows; the table's trigger notes that in the head. It locks the head
-- first, like KeepForLegacy, which may need the same rows. Appends wait for it, so the batch is small.
-- name: DeleteOldCutoffs :execrows
WITH head AS (SELECT h.seq FROM ledger_head h FOR UPDATE)
DELETE FROM revocations WHERE seq IN (
    SELECT v.seq FROM revocations v, head
    WHERE v.keep_until < now() AND v.seq < head.seq AND latchkey_reaches_legacy(v.kind, v.session_id)
    ORDER BY v.keep_until LIMIT 500
);
