-- What `latchkey migrate down` leaves behind is read when the migrations run again. The ledger that said what was ended
-- is gone, while sessions in Redis and tokens of older backends are not: all of them that are from before are refused, by
-- one row for everybody with the time at which the migrations were taken back.
--
-- locks: nothing

-- +goose Up
-- +goose StatementBegin
DO $$
DECLARE
    taken record;
    appended bigint;
BEGIN
    IF to_regclass('latchkey_taken_back') IS NULL THEN
        RETURN;
    END IF;
    SELECT * INTO STRICT taken FROM latchkey_taken_back;
    -- On a server with a lower timeline numbers would begin below those of sessions from before.
    UPDATE ledger_head SET seq = greatest(seq, taken.seq);
    -- Longer than any session lives, by any setting.
    appended := latchkey_append_revocation('all', NULL, NULL, NULL, NULL, now() + interval '10 years');
    -- What an older backend has issued since is later than this time, and good.
    UPDATE revocations SET created_at = taken.at WHERE seq = appended;
    DROP TABLE latchkey_taken_back;
END
$$;
-- +goose StatementEnd

-- +goose Down
-- Nothing: what was refused stays so.
SELECT 1;
