-- AdmitNotice counts a mail to an account. It changes no row if the account had a mail of this kind within the gap, or
-- as many as the limit within the window. It looks first, so that a refused caller neither writes nor waits; of several
-- at once one is counted. A time from a clock that was far ahead counts as long ago. day_began and in_day are of the
-- window, which is a day for notices.
-- name: AdmitNotice :execrows
WITH asked AS (
    SELECT @user_id::uuid AS user_id, @kind::text AS kind, @now::timestamptz AS at,
        @gap_seconds::double precision AS gap, @window_seconds::double precision AS period, @window_limit::integer AS most
)
INSERT INTO mail_notices AS m (user_id, kind, last_at, day_began, in_day)
SELECT asked.user_id, asked.kind, asked.at, asked.at, 1 FROM asked
WHERE NOT EXISTS (
    SELECT FROM mail_notices n
    WHERE n.user_id = asked.user_id AND n.kind = asked.kind
        AND (
            abs(extract(epoch FROM asked.at - n.last_at)) < asked.gap
            OR n.in_day >= asked.most AND abs(extract(epoch FROM asked.at - n.day_began)) < asked.period
        )
)
ON CONFLICT (user_id, kind) DO UPDATE
SET last_at = excluded.last_at,
    in_day = CASE
        WHEN abs(extract(epoch FROM excluded.last_at - m.day_began)) < (SELECT period FROM asked) THEN m.in_day + 1 ELSE 1
    END,
    day_began = CASE
        WHEN abs(extract(epoch FROM excluded.last_at - m.day_began)) < (SELECT period FROM asked) THEN m.day_began
        ELSE excluded.last_at
    END
WHERE abs(extract(epoch FROM excluded.last_at - m.last_at)) >= (SELECT gap FROM asked)
    AND (
        m.in_day < (SELECT most FROM asked)
        OR abs(extract(epoch FROM excluded.last_at - m.day_began)) >= (SELECT period FROM asked)
    );

-- TakeBackNotice takes back one mail that AdmitNotice has counted.
-- name: TakeBackNotice :exec
UPDATE mail_notices SET in_day = greatest(in_day - 1, 0) WHERE user_id = @user_id AND kind = @kind;

-- DeleteMailNoticesBefore deletes rows that bound nothing any more, a day after their last notice.
-- name: DeleteMailNoticesBefore :execrows
DELETE FROM mail_notices WHERE last_at < @before::timestamptz;
