-- Whatever ends an account's sessions ends its mailed links: those that are out, those on
-- the way and those that were only asked for.
--
-- locks: nothing

-- +goose Up

-- The ledger's head, for rows that carry a position.
-- +goose StatementBegin
CREATE FUNCTION latchkey_ledger_position() RETURNS bigint LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT seq FROM ledger_head
$$;
-- +goose StatementEnd

-- Whether the account's sessions, all of them or all but one, were ended after a position.
-- +goose StatementBegin
CREATE FUNCTION latchkey_ended_since(user_id uuid, ledger bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT EXISTS (SELECT FROM revocations r WHERE r.kind = 'user' AND r.user_id = $1 AND r.seq > $2)
        OR EXISTS (SELECT FROM revocations r WHERE r.kind = 'all' AND r.seq > $2)
$$;
-- +goose StatementEnd

-- The head's position when the link was asked for: a later row of the ledger refuses it, as
-- it refuses sessions. The default is for versions of Latchkey that do not know the column;
-- it is not volatile, so that the table is not rewritten. The lock waits for resets that are
-- under way, and the table is small.
ALTER TABLE password_resets ADD COLUMN ledger bigint NOT NULL DEFAULT latchkey_ledger_position();

UPDATE password_resets p SET ledger = coalesce((
    SELECT r.seq FROM revocations r WHERE r.created_at <= p.created_at ORDER BY r.seq DESC LIMIT 1
), 0);

-- Requests whose account was not looked up yet. They go with the look-up, so that mistyped
-- addresses are not kept.
CREATE TABLE reset_requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- As it was typed.
    email text NOT NULL,
    -- 1 is served before 2: whose network has not asked lately.
    priority smallint NOT NULL,
    ledger bigint NOT NULL DEFAULT latchkey_ledger_position(),
    requested_at timestamptz NOT NULL DEFAULT now(),
    trace_id text NOT NULL
);

CREATE INDEX reset_requests_turn ON reset_requests (priority, id);

-- Deletes what an account was mailed, or everybody (NULL). It passes over rows that another
-- transaction has locked: waiting for one that waits for the head would be a deadlock of
-- two that both do right. Their position refuses them.
-- +goose StatementBegin
CREATE FUNCTION latchkey_end_secrets(of_user uuid) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM password_resets WHERE user_id IN (
        SELECT p.user_id FROM password_resets p WHERE p.user_id = of_user OR of_user IS NULL FOR UPDATE SKIP LOCKED
    );
END
$$;
-- +goose StatementEnd

-- As before, and ends what was mailed.
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
    IF kind IN ('user', 'all') THEN
        PERFORM latchkey_end_secrets(user_id); -- before the head's lock, which is the last
    END IF;
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

-- As before, and ends what was mailed; also when the account gets another address: the link
-- went to the one before.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_user_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    -- An account that is gone, or another one in its place, revokes.
    revoking boolean := true;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        revoking := NEW.id IS DISTINCT FROM OLD.id
            OR NEW.is_active IS DISTINCT FROM OLD.is_active
            OR (NEW.password_hash IS DISTINCT FROM OLD.password_hash
                AND current_setting('latchkey.rehash', true) IS DISTINCT FROM OLD.id::text);
        IF NOT revoking
            AND (OLD.email, OLD.first_name, OLD.last_name, OLD.is_verified, OLD.created_at)
            IS NOT DISTINCT FROM (NEW.email, NEW.first_name, NEW.last_name, NEW.is_verified, NEW.created_at)
        THEN
            RETURN NULL;
        END IF;
    END IF;
    -- Also when no row is appended below: what was made since the transaction's own row.
    IF revoking THEN
        PERFORM latchkey_end_secrets(OLD.id);
    ELSIF NEW.email IS DISTINCT FROM OLD.email THEN
        PERFORM latchkey_end_secrets(OLD.id);
    END IF;
    IF EXISTS (
        SELECT FROM revocations r
        WHERE r.kind = 'user' AND r.user_id = OLD.id AND r.xmin = pg_current_xact_id()::xid
    ) THEN
        RETURN NULL;
    END IF;
    IF revoking THEN
        PERFORM latchkey_append_revocation('user', NULL, OLD.id, NULL, NULL, NULL);
    ELSE
        PERFORM latchkey_append_revocation('user_changed', NULL, OLD.id, NULL, NULL, now() + interval '1 hour');
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_user_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    -- An account that is gone, or another one in its place, revokes.
    revoking boolean := true;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        revoking := NEW.id IS DISTINCT FROM OLD.id
            OR NEW.is_active IS DISTINCT FROM OLD.is_active
            OR (NEW.password_hash IS DISTINCT FROM OLD.password_hash
                AND current_setting('latchkey.rehash', true) IS DISTINCT FROM OLD.id::text);
        IF NOT revoking
            AND (OLD.email, OLD.first_name, OLD.last_name, OLD.is_verified, OLD.created_at)
            IS NOT DISTINCT FROM (NEW.email, NEW.first_name, NEW.last_name, NEW.is_verified, NEW.created_at)
        THEN
            RETURN NULL;
        END IF;
    END IF;
    IF EXISTS (
        SELECT FROM revocations r
        WHERE r.kind = 'user' AND r.user_id = OLD.id AND r.xmin = pg_current_xact_id()::xid
    ) THEN
        RETURN NULL;
    END IF;
    IF revoking THEN
        PERFORM latchkey_append_revocation('user', NULL, OLD.id, NULL, NULL, NULL);
    ELSE
        PERFORM latchkey_append_revocation('user_changed', NULL, OLD.id, NULL, NULL, now() + interval '1 hour');
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

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

DROP FUNCTION latchkey_end_secrets(uuid);
DROP TABLE reset_requests;
ALTER TABLE password_resets DROP COLUMN ledger;
DROP FUNCTION latchkey_ended_since(uuid, bigint);
DROP FUNCTION latchkey_ledger_position();
