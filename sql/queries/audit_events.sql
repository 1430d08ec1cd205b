-- name: RecordAuditEvent :exec
INSERT INTO audit_events (created_at, kind, user_id, session_id, address, trace_id, call_id, actor)
VALUES (@created_at, @kind, @user_id, @session_id, @address, @trace_id, @call_id, @actor);

-- RecordRepeatedEvent counts an event on the row that the same session has written since then, or makes a row. It reads
-- only the newest rows of the account, so that it stays fast with any number of rows.
-- name: RecordRepeatedEvent :exec
WITH counted AS (
    UPDATE audit_events SET times = times + 1 WHERE id = (
        SELECT recent.id
        FROM (
            SELECT id, kind, session_id, created_at FROM audit_events
            WHERE user_id = @user_id ORDER BY id DESC LIMIT 100
        ) AS recent
        WHERE recent.kind = @kind::text AND recent.session_id = @session_id::uuid AND recent.created_at > @since::timestamptz
        ORDER BY recent.id DESC LIMIT 1
    )
    RETURNING id
)
INSERT INTO audit_events (created_at, kind, user_id, session_id, address, trace_id, call_id)
SELECT @created_at, @kind, @user_id, @session_id::uuid, @address, @trace_id, @call_id
WHERE NOT EXISTS (SELECT FROM counted);

-- NewestAuditEvent returns the last event of an account. Ids are given out in the order of the account's lock if the
-- writers hold it.
-- name: NewestAuditEvent :one
SELECT kind, session_id FROM audit_events WHERE user_id = @user_id AND latchkey_on_primary() ORDER BY id DESC LIMIT 1;

-- SessionInTrail says whether the trail has an event of the session for the account other than its end: anybody can ask
-- for the end of any identifier. It reads only the newest rows, which takes some milliseconds.
-- name: SessionInTrail :one
SELECT EXISTS (
    SELECT FROM (
        SELECT kind, session_id FROM audit_events WHERE user_id = @user_id ORDER BY id DESC LIMIT 5000
    ) AS recent
    WHERE recent.session_id = @session_id::uuid AND recent.kind NOT IN ('session_revoked', 'user_session_revoked')
) WHERE latchkey_on_primary();

-- RecordSignUpAttempt writes the event of a sign-up with a taken address. The owner gets a mail about it in the same
-- transaction. It writes no event within an hour of such a mail.
-- name: RecordSignUpAttempt :exec
WITH asked AS (
    SELECT @user_id::uuid AS user_id, @notice::text AS notice, @created_at::timestamptz AS at
)
INSERT INTO audit_events (created_at, kind, user_id, address, trace_id, call_id)
SELECT asked.at, @kind::text, asked.user_id, @address::text, @trace_id::text, @call_id::text FROM asked
WHERE NOT EXISTS (
    SELECT FROM mail_notices n
    WHERE n.user_id = asked.user_id AND n.kind = asked.notice AND abs(extract(epoch FROM asked.at - n.last_at)) < 3600
);

-- DeleteAuditEventsBefore deletes a batch: one statement for a whole backlog would reach the statement timeout, and the
-- backlog would never shrink.
-- name: DeleteAuditEventsBefore :execrows
DELETE FROM audit_events WHERE id IN (
    SELECT id FROM audit_events WHERE created_at < @before::timestamptz ORDER BY created_at LIMIT 5000
);

-- ListAuditEvents reads events newest first, from before a position on, and not older than since. It looks at the first
-- @most rows only, so that a page costs no more where few rows are of the wanted kinds (none named: all kinds). It
-- returns up to @size rows; those that are not wanted only say how far it has looked.
-- name: ListAuditEvents :many
SELECT looked.id, looked.created_at, looked.kind, looked.user_id, looked.session_id, looked.trace_id, looked.actor, looked.times,
    CASE WHEN EXISTS (SELECT FROM audit_erasures d WHERE d.user_id = looked.user_id) THEN '' ELSE looked.address END::text AS address,
    (cardinality(@kinds::text[]) = 0 OR looked.kind = ANY (@kinds::text[]))::boolean AS wanted,
    (looked.place = @most::integer)::boolean AS last
FROM (
    SELECT page.*, row_number() OVER (ORDER BY page.created_at DESC, page.id DESC) AS place FROM (
        SELECT e.* FROM audit_events e
        WHERE (e.created_at, e.id) < (@before::timestamptz, @before_id::bigint) AND e.created_at >= @since::timestamptz
            AND latchkey_on_primary()
        ORDER BY e.created_at DESC, e.id DESC LIMIT @most::integer
    ) AS page
) AS looked
WHERE cardinality(@kinds::text[]) = 0 OR looked.kind = ANY (@kinds::text[]) OR looked.place = @most::integer
ORDER BY looked.created_at DESC, looked.id DESC LIMIT @size::integer;

-- ListAuditEventsOf is ListAuditEvents for one account. It compares rows with user_id in them: with user_id = … the planner
-- may read the events of all accounts by time and drop the others.
-- name: ListAuditEventsOf :many
SELECT looked.id, looked.created_at, looked.kind, looked.user_id, looked.session_id, looked.trace_id, looked.actor, looked.times,
    CASE WHEN EXISTS (SELECT FROM audit_erasures d WHERE d.user_id = looked.user_id) THEN '' ELSE looked.address END::text AS address,
    (cardinality(@kinds::text[]) = 0 OR looked.kind = ANY (@kinds::text[]))::boolean AS wanted,
    (looked.place = @most::integer)::boolean AS last
FROM (
    SELECT page.*, row_number() OVER (ORDER BY page.created_at DESC, page.id DESC) AS place FROM (
        SELECT e.* FROM audit_events e
        WHERE (e.user_id, e.created_at, e.id) < (@user_id::uuid, @before::timestamptz, @before_id::bigint)
            AND (e.user_id, e.created_at) >= (@user_id::uuid, @since::timestamptz) AND latchkey_on_primary()
        ORDER BY e.user_id DESC, e.created_at DESC, e.id DESC LIMIT @most::integer
    ) AS page
) AS looked
WHERE cardinality(@kinds::text[]) = 0 OR looked.kind = ANY (@kinds::text[]) OR looked.place = @most::integer
ORDER BY looked.created_at DESC, looked.id DESC LIMIT @size::integer;

-- EraseAddresses empties the addresses in events of deleted accounts, up to 5,000 rows at once, and forgets the accounts
-- that are done. It waits for 5 minutes, until no call can write an event of the account any more. It returns how much
-- it did: 0 means that nothing is left.
-- name: EraseAddresses :one
WITH taken AS (
    SELECT d.user_id FROM audit_erasures d WHERE d.deleted_at < clock_timestamp() - interval '5 minutes' LIMIT 200 FOR UPDATE SKIP LOCKED
), emptied AS (
    UPDATE audit_events SET address = '' WHERE id IN (
        SELECT e.id FROM taken JOIN audit_events e ON e.user_id = taken.user_id WHERE e.address <> '' LIMIT 5000
    )
    RETURNING id
), done AS (
    DELETE FROM audit_erasures d USING taken WHERE d.user_id = taken.user_id AND (SELECT count(*) FROM emptied) < 5000
    RETURNING d.user_id
)
SELECT ((SELECT count(*) FROM emptied) + (SELECT count(*) FROM done))::bigint;
