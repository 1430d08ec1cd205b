-- The ledger becomes final: replicas follow it and say how far they are, every row
-- wakes them, and changes of accounts append by themselves.
--
-- locks: users SHARE ROW EXCLUSIVE, adds trigger latchkey_user_updated
-- locks: users SHARE ROW EXCLUSIVE, adds trigger latchkey_user_deleted
-- locks: users SHARE ROW EXCLUSIVE, adds trigger latchkey_users_truncated

-- +goose Up

-- One row for each running process, which it makes before it reads the ledger and
-- takes away when it stops. A revocation is final once every row here has applied
-- it, or one lease has passed.
CREATE TABLE replicas (
    -- Random for each process: one that was thought dead cannot take up its old row.
    id uuid PRIMARY KEY,
    -- It has applied every row up to this one.
    applied_seq bigint NOT NULL,
    -- How long it may trust its memory after it was seen to be up to date.
    lease_ms integer NOT NULL CHECK (lease_ms > 0),
    -- Set: it must not trust its memory any more, and the row goes one lease later.
    leaving_since timestamptz
);

-- The longest lives that any replica was set to: how long a row can matter to a
-- session, and to an access token. Replicas raise them when they start.
ALTER TABLE ledger_head
    ADD COLUMN session_life interval NOT NULL DEFAULT '720 hours',
    ADD COLUMN access_life interval NOT NULL DEFAULT '15 minutes';

-- user_changed: names, address or verification of user_id. keys_changed: the set of
-- signing keys. Neither revokes anything: they are for caches.
ALTER TABLE revocations
    DROP CONSTRAINT revocations_kind_check,
    ADD CONSTRAINT revocations_kind_check
        CHECK (kind IN ('session', 'user', 'all', 'key', 'user_changed', 'keys_changed'));

CREATE INDEX revocations_key_id ON revocations (key_id) WHERE kind = 'key';

CREATE INDEX revocations_keep_until ON revocations (keep_until);

-- As before, and wakes whoever follows.
--
-- A row's times are those of its commit, not of the beginning of its transaction:
-- memory holds it for as long as access tokens live from created_at on, and would
-- forget at once what plain SQL changed at the end of a long transaction. A NULL
-- keep_until is the longest that the row can matter: the longest session, and an hour
-- for clocks that differ.
--
-- Numbers begin at the clock's milliseconds within the timeline. A backup that is
-- restored brings back an older head: sessions that began after the backup carry higher
-- positions than its rows, and counting on from there would refuse them nothing. Their
-- order is still that of commits: a clock that is wrong or set back adds one.
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

-- Plain SQL, or an older backend on the same table, cannot change an account around
-- the ledger. The trigger is deferred to the commit, so that the head's lock is the
-- last that a transaction takes and is held no longer than the commit.
--
-- A transaction that has appended a row for the account itself, with an exception
-- say, needs no second one: it still holds the head's lock, and rows that it wrote
-- are told by their xmin. A new hash of the same password (latchkey.rehash names
-- the account, for its transaction) revokes nothing.
-- +goose StatementBegin
CREATE FUNCTION latchkey_user_changed() RETURNS trigger
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
CREATE FUNCTION latchkey_users_truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM latchkey_append_revocation('all', NULL, NULL, NULL, NULL, NULL);
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE CONSTRAINT TRIGGER latchkey_user_updated AFTER UPDATE ON users
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (
        (OLD.id, OLD.email, OLD.password_hash, OLD.first_name, OLD.last_name, OLD.is_active, OLD.is_verified, OLD.created_at)
        IS DISTINCT FROM
        (NEW.id, NEW.email, NEW.password_hash, NEW.first_name, NEW.last_name, NEW.is_active, NEW.is_verified, NEW.created_at)
    )
    EXECUTE FUNCTION latchkey_user_changed();

CREATE CONSTRAINT TRIGGER latchkey_user_deleted AFTER DELETE ON users
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION latchkey_user_changed();

CREATE TRIGGER latchkey_users_truncated AFTER TRUNCATE ON users
    FOR EACH STATEMENT EXECUTE FUNCTION latchkey_users_truncated();

-- +goose Down
DROP TRIGGER latchkey_users_truncated ON users;
DROP FUNCTION latchkey_users_truncated();
DROP TRIGGER latchkey_user_deleted ON users;
DROP TRIGGER latchkey_user_updated ON users;
DROP FUNCTION latchkey_user_changed();
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_append_revocation(
    kind text, session_id uuid, user_id uuid, except_session_id uuid, key_id text, keep_until timestamptz
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    timeline bigint := ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint;
    head ledger_head;
BEGIN
    UPDATE ledger_head h SET seq = greatest(h.seq + 1, timeline << 40), tip = gen_random_uuid()
        RETURNING h.* INTO STRICT head;
    INSERT INTO revocations VALUES (
        head.seq, head.tip, kind, session_id, user_id, except_session_id, key_id, now(), keep_until
    );
    RETURN head.seq;
END
$$;
-- +goose StatementEnd

DROP INDEX revocations_keep_until;
DROP INDEX revocations_key_id;
DELETE FROM revocations WHERE kind IN ('user_changed', 'keys_changed');
ALTER TABLE revocations
    DROP CONSTRAINT revocations_kind_check,
    ADD CONSTRAINT revocations_kind_check CHECK (kind IN ('session', 'user', 'all', 'key'));
ALTER TABLE ledger_head DROP COLUMN session_life, DROP COLUMN access_life;
DROP TABLE replicas;
