-- AdmitNotice counts a notice, unless the account had one of this kind within an hour or
-- five within a day: no row then. It looks first, so that whoever is refused neither
-- writes nor waits; of several at once one is counted. A time from a clock that was far
-- ahead counts as long ago.
-- name: AdmitNotice :execrows
WITH asked AS (
    SELECT @user_id::uuid AS user_id, @kind::text AS kind, @now::timestamptz AS at
)
INSERT INTO mail_notices AS m (user_id, kind, last_at, day_began, in_day)
SELECT asked.user_id, asked.kind, asked.at, asked.at, 1 FROM asked
WHERE NOT EXISTS (
    SELECT FROM mail_notices n
    WHERE n.user_id = asked.user_id AND n.kind = asked.kind
        AND (
            abs(extract(epoch FROM asked.at - n.last_at)) < 3600
            OR n.in_day >= 5 AND abs(extract(epoch FROM asked.at - n.day_began)) < 86400
        )
)
ON CONFLICT (user_id, kind) DO UPDATE
SET last_at = excluded.last_at,
    in_day = CASE WHEN abs(extract(epoch FROM excluded.last_at - m.day_began)) < 86400 THEN m.in_day + 1 ELSE 1 END,
    day_began = CASE WHEN abs(extract(epoch FROM excluded.last_at - m.day_began)) < 86400 THEN m.day_began ELSE excluded.last_at END
WHERE abs(extract(epoch FROM excluded.last_at - m.last_at)) >= 3600
    AND (m.in_day < 5 OR abs(extract(epoch FROM excluded.last_at - m.day_began)) >= 86400);

-- DeleteMailNoticesBefore deletes rows that bound nothing any more: a day after their last
-- notice.
-- name: DeleteMailNoticesBefore :execrows
DELETE FROM mail_notices WHERE last_at < @before::timestamptz;
