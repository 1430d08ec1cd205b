-- latchkey_count_code counts a code as wrong before it is compared. It is a function because two queries do it: the one of
-- a login does it in the statement that looks the challenge up, which takes a trip of 0.2 ms away.
--
-- locks: nothing

-- +goose Up
-- Returns the wrong codes of the subject in the window with this one; of_most if it is the last one that is allowed; or 0
-- without counting it: there were of_most in the window, which is the one since of_ago and becomes the one since of_long_ago
-- after of_many in a row, or the account is gone.
--
-- The devices and sessions of an account (all subjects but zeros) also have of_all since of_long_ago together, in a row with
-- the subject of ones: somebody who knew the password before the second factor may have collected device tokens.
-- +goose StatementBegin
CREATE FUNCTION latchkey_count_code(
    of_user uuid, of_subject uuid, of_epoch bigint, at timestamptz, of_most integer, of_many integer, of_all integer,
    of_ago timestamptz, of_long_ago timestamptz
) RETURNS integer LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    together CONSTANT uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
    sum_failures integer := 0;
    counted integer;
BEGIN
    IF of_subject <> '00000000-0000-0000-0000-000000000000' THEN
        -- The row is locked before that of the subject, by everybody. The account's lock waits for a deletion that is under way.
        INSERT INTO factor_failures AS f (user_id, subject, epoch, since, failures, in_a_row)
        SELECT u.id, together, of_epoch, at, 0, 0 FROM users u WHERE u.id = of_user FOR KEY SHARE
        ON CONFLICT (user_id, subject) DO UPDATE SET
            failures = CASE WHEN f.epoch <> excluded.epoch OR f.since <= of_long_ago THEN 0 ELSE f.failures END,
            since = CASE WHEN f.epoch <> excluded.epoch OR f.since <= of_long_ago THEN excluded.since ELSE f.since END,
            epoch = excluded.epoch
        RETURNING f.failures INTO sum_failures;
        IF sum_failures IS NULL OR sum_failures >= of_all THEN
            RETURN 0;
        END IF;
    END IF;

    INSERT INTO factor_failures AS f (user_id, subject, epoch, since, failures, in_a_row)
    SELECT u.id, of_subject, of_epoch, at, 1, 1 FROM users u WHERE u.id = of_user FOR KEY SHARE
    ON CONFLICT (user_id, subject) DO UPDATE SET
        failures = CASE WHEN f.epoch <> excluded.epoch
            OR f.since <= CASE WHEN f.in_a_row >= of_many THEN of_long_ago ELSE of_ago END THEN 1 ELSE f.failures + 1 END,
        since = CASE WHEN f.epoch <> excluded.epoch
            OR f.since <= CASE WHEN f.in_a_row >= of_many THEN of_long_ago ELSE of_ago END THEN excluded.since ELSE f.since END,
        in_a_row = CASE WHEN f.epoch <> excluded.epoch THEN 1 ELSE f.in_a_row + 1 END,
        epoch = excluded.epoch
    WHERE f.epoch <> excluded.epoch OR f.failures < of_most
        OR f.since <= CASE WHEN f.in_a_row >= of_many THEN of_long_ago ELSE of_ago END
    RETURNING f.failures INTO counted;
    IF counted IS NULL THEN
        RETURN 0;
    END IF;
    IF of_subject <> '00000000-0000-0000-0000-000000000000' THEN
        UPDATE factor_failures f SET failures = f.failures + 1 WHERE f.user_id = of_user AND f.subject = together;
        IF sum_failures + 1 = of_all THEN
            RETURN of_most;
        END IF;
    END IF;
    RETURN counted;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION latchkey_count_code(uuid, uuid, bigint, timestamptz, integer, integer, integer, timestamptz, timestamptz);
