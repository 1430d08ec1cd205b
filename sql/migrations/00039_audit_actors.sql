-- The audit trail says which operator acted, and keeps no network address of an account that is deleted.
--
-- The column has a constant default, so that no row is written: the table is locked for a moment. Versions from before
-- leave it at its default.
--
-- locks: users SHARE ROW EXCLUSIVE, adds trigger latchkey_audit_erasure
-- locks: users SHARE ROW EXCLUSIVE, adds trigger latchkey_audit_erasure_all

-- +goose Up
ALTER TABLE audit_events
    -- operator:KEY if an operator did it, where KEY is the first 8 hex digits of the SHA-256 of the admin key. Empty:
    -- anybody else, or an earlier version wrote it.
    ADD COLUMN actor text NOT NULL DEFAULT '';

-- Accounts that were deleted and whose events may still have addresses. Lists do not show these addresses any more; the
-- sweep empties them and deletes the row.
CREATE TABLE audit_erasures (
    user_id uuid PRIMARY KEY,
    deleted_at timestamptz NOT NULL
);

-- Other programs delete rows of users too, and need no right on our tables for it.
-- +goose StatementBegin
CREATE FUNCTION latchkey_audit_erasure() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO audit_erasures SELECT id, clock_timestamp() FROM users
        ON CONFLICT (user_id) DO UPDATE SET deleted_at = excluded.deleted_at;
    ELSE
        INSERT INTO audit_erasures VALUES (OLD.id, clock_timestamp())
        ON CONFLICT (user_id) DO UPDATE SET deleted_at = excluded.deleted_at;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER latchkey_audit_erasure AFTER DELETE ON users
    FOR EACH ROW EXECUTE FUNCTION latchkey_audit_erasure();

CREATE TRIGGER latchkey_audit_erasure_all BEFORE TRUNCATE ON users
    FOR EACH STATEMENT EXECUTE FUNCTION latchkey_audit_erasure();

-- +goose Down
DROP TRIGGER latchkey_audit_erasure_all ON users;
DROP TRIGGER latchkey_audit_erasure ON users;
DROP FUNCTION latchkey_audit_erasure();
DROP TABLE audit_erasures;
ALTER TABLE audit_events DROP COLUMN actor;
