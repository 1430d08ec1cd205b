-- Tokens of the backends that Latchkey took over from carry no position and may live
-- for any time: what refuses them must be kept until none of them is accepted.
--
-- locks: nothing

-- +goose Up
ALTER TABLE ledger_head
    -- Until when some replica was ever set to accept such tokens. NULL: never.
    ADD COLUMN legacy_until timestamptz,
    -- A row that could refuse such a token was deleted, and was appended at this time at
    -- the latest: what was issued before can be told good from revoked no more. NULL:
    -- all are there.
    ADD COLUMN forgotten_at timestamptz;

-- Rows of earlier versions were kept for 30 days and an hour at least.
UPDATE ledger_head SET forgotten_at = now() - interval '721 hours' WHERE seq > 0;

-- Whether a row can refuse such a token. The session of one is a UUID of version 8,
-- made from the token; Latchkey's own sessions have version 4, and are most of the rows.
-- +goose StatementBegin
CREATE FUNCTION latchkey_reaches_legacy(kind text, session_id uuid) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT kind IN ('user', 'all', 'key') OR kind = 'session' AND substr(session_id::text, 15, 1) = '8'
$$;
-- +goose StatementEnd

-- As before, and keeps what can refuse such a token for as long as one is accepted,
-- whichever replica appends: one that is set otherwise, or plain SQL.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_append_revocation(
    kind text, session_id uuid, user_id uuid, except_session_id uuid, key_id text, keep_until timestamptz
) RETURNS bigint LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    timeline bigint := ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint;
    head ledger_head;
    appended timestamptz;
    since bigint; -- milliseconds: 40 bits last until 2059, and then it is the number before plus one
    keep timestamptz;
BEGIN
    since := greatest(0, extract(epoch FROM clock_timestamp() - timestamptz '2025-01-01 00:00Z') * 1000);
    UPDATE ledger_head h SET seq = greatest(h.seq + 1, (timeline << 40) + least(since, (1::bigint << 40) - 1)), tip = gen_random_uuid()
        RETURNING h.* INTO STRICT head;
    appended := clock_timestamp(); -- after the lock: it may have been waited for
    -- What was asked for counts from the transaction's beginning.
    keep := coalesce(keep_until + (appended - now()), appended + head.session_life + interval '1 hour');
    IF latchkey_reaches_legacy(kind, session_id) THEN
        keep := greatest(keep, head.legacy_until + interval '1 hour'); -- which passes over a NULL
    END IF;
    INSERT INTO revocations VALUES (
        head.seq, head.tip, kind, session_id, user_id, except_session_id, key_id, appended, keep
    );
    PERFORM pg_notify('latchkey_ledger', '');
    RETURN head.seq;
END
$$;
-- +goose StatementEnd

-- Notes until when such tokens are accepted, and keeps for as long what was appended
-- before that was known. The head's lock makes it see every row that was appended with
-- an earlier date, or none.
-- +goose StatementBegin
CREATE FUNCTION latchkey_keep_for_legacy(until timestamptz) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE ledger_head h SET legacy_until = until WHERE h.legacy_until IS NULL OR h.legacy_until < until;
    IF FOUND THEN
        UPDATE revocations r SET keep_until = until + interval '1 hour'
        WHERE latchkey_reaches_legacy(r.kind, r.session_id) AND r.keep_until < until + interval '1 hour';
    END IF;
END
$$;
-- +goose StatementEnd

-- Whoever deletes rows, an older version of Latchkey too, leaves a note of it.
-- +goose StatementBegin
CREATE FUNCTION latchkey_revocations_deleted() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE ledger_head h SET forgotten_at = lost.at
    FROM (SELECT max(d.created_at) AS at FROM deleted d WHERE latchkey_reaches_legacy(d.kind, d.session_id)) AS lost
    WHERE h.forgotten_at < lost.at OR (h.forgotten_at IS NULL AND lost.at IS NOT NULL);
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER latchkey_revocations_deleted AFTER DELETE ON revocations
    REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION latchkey_revocations_deleted();

-- +goose Down
DROP TRIGGER latchkey_revocations_deleted ON revocations;
DROP FUNCTION latchkey_revocations_deleted();
DROP FUNCTION latchkey_keep_for_legacy(timestamptz);
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

DROP FUNCTION latchkey_reaches_legacy(text, uuid);
ALTER TABLE ledger_head DROP COLUMN legacy_until, DROP COLUMN forgotten_at;
