-- A change of an account's address by plain SQL ends the links that were mailed to the one before, or asked for with it, also
-- where the link's row cannot be deleted and where there is none yet: by its position in the ledger.
--
-- The foreign key locks users for a moment: writers of accounts wait for it, readers do not.
--
-- locks: users SHARE ROW EXCLUSIVE, adds table address_changes, which refers to users

-- +goose Up

-- The last change of each account that had one. The ledger's own row does not do: it is appended for a new name too, and is
-- deleted after an hour.
CREATE TABLE address_changes (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- The ledger's position of the change: whatever carries a lower one was made for another address.
    seq bigint NOT NULL,
    -- For the reset tokens of existing backends, which carry no position.
    changed_at timestamptz NOT NULL
);

-- The last hour's changes do not say what they changed: perhaps the address.
INSERT INTO address_changes (user_id, seq, changed_at)
SELECT DISTINCT ON (r.user_id) r.user_id, r.seq, r.created_at
FROM revocations r JOIN users u ON u.id = r.user_id
WHERE r.kind = 'user_changed' ORDER BY r.user_id, r.seq DESC;

-- Whether the account's sessions, all of them or all but one, were ended after a position, or its address changed.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_ended_since(user_id uuid, ledger bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT EXISTS (SELECT FROM revocations r WHERE r.kind = 'user' AND r.user_id = $1 AND r.seq > $2)
        OR EXISTS (SELECT FROM revocations r WHERE r.kind = 'all' AND r.seq > $2)
        OR EXISTS (SELECT FROM address_changes c WHERE c.user_id = $1 AND c.seq > $2)
$$;
-- +goose StatementEnd

-- As before, and notes the position of a new address. A row for the account itself needs no note: it ends links too.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_user_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    -- An account that is gone, or another one in its place, revokes.
    revoking boolean := true;
    appended bigint;
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
        appended := latchkey_append_revocation('user_changed', NULL, OLD.id, NULL, NULL, now() + interval '1 hour');
        IF NEW.email IS DISTINCT FROM OLD.email THEN
            -- The account may be gone since, in this transaction.
            INSERT INTO address_changes (user_id, seq, changed_at)
            SELECT u.id, appended, clock_timestamp() FROM users u WHERE u.id = OLD.id
            ON CONFLICT (user_id) DO UPDATE SET seq = excluded.seq, changed_at = excluded.changed_at;
        END IF;
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

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_ended_since(user_id uuid, ledger bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT EXISTS (SELECT FROM revocations r WHERE r.kind = 'user' AND r.user_id = $1 AND r.seq > $2)
        OR EXISTS (SELECT FROM revocations r WHERE r.kind = 'all' AND r.seq > $2)
$$;
-- +goose StatementEnd

DROP TABLE address_changes;
