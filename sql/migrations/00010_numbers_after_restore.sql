-- A backup that is restored brings back an older number. Sessions that began after the
-- backup carry higher ones than the rows that were appended next, and those refused
-- them nothing: not a new password, nor the end of all sessions. Numbers now begin at
-- the clock's milliseconds, so that they go on above all that were given out. Their
-- order is still that of commits: a clock that is wrong or set back adds one.

-- +goose Up
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_append_revocation(
    kind text, session_id uuid, user_id uuid, except_session_id uuid, key_id text, keep_until timestamptz
) RETURNS bigint LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    timeline bigint := ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint;
    head ledger_head;
    appended timestamptz;
    since bigint; -- milliseconds: 40 bits last until 2059, and then it is the number before plus one
BEGIN
    since := greatest(0, extract(epoch FROM clock_timestamp() - timestamptz '2025-01-01 00:00Z') * 1000);
    UPDATE ledger_head h SET seq = greatest(h.seq + 1, (timeline << 40) + least(since, (1::bigint << 40) - 1)), tip = gen_random_uuid()
        RETURNING h.* INTO STRICT head;
    appended := clock_timestamp(); -- after the lock: it may have been waited for
    INSERT INTO revocations VALUES (
        head.seq, head.tip, kind, session_id, user_id, except_session_id, key_id, appended,
        -- What was asked for counts from the transaction's beginning.
        coalesce(keep_until + (appended - now()), appended + head.session_life + interval '1 hour')
    );
    PERFORM pg_notify('latchkey_ledger', '');
    RETURN head.seq;
END
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_append_revocation(
    kind text, session_id uuid, user_id uuid, except_session_id uuid, key_id text, keep_until timestamptz
) RETURNS bigint LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    timeline bigint := ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint;
    head ledger_head;
    appended timestamptz;
BEGIN
    UPDATE ledger_head h SET seq = greatest(h.seq + 1, timeline << 40), tip = gen_random_uuid()
        RETURNING h.* INTO STRICT head;
    appended := clock_timestamp(); -- after the lock: it may have been waited for
    INSERT INTO revocations VALUES (
        head.seq, head.tip, kind, session_id, user_id, except_session_id, key_id, appended,
        -- What was asked for counts from the transaction's beginning.
        coalesce(keep_until + (appended - now()), appended + head.session_life + interval '1 hour')
    );
    PERFORM pg_notify('latchkey_ledger', '');
    RETURN head.seq;
END
$$;
-- +goose StatementEnd
