-- What was read decides only when it was read from the primary; and PostgreSQL knows how
-- far sessions have come, should Redis get an older copy of itself back.
--
-- locks: nothing

-- +goose Up

-- True on a primary that takes writes; elsewhere an error of SQLSTATE 25006, as a write
-- would have there. Statements that decide have it as a condition: a former primary that
-- was set read-only, or a standby, does not know what was ended since. The planner
-- evaluates it once, before any row and also where there is none.
-- +goose StatementBegin
CREATE FUNCTION latchkey_on_primary() RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    IF current_setting('transaction_read_only')::boolean OR pg_is_in_recovery() THEN
        RAISE 'this server is not, or no longer, the primary' USING ERRCODE = 'read_only_sql_transaction';
    END IF;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- For checks of health, nothing ever stays in it: rows of a usual size, seven a page.
CREATE TABLE store_checks (filler text NOT NULL);

-- Writes a row, takes it back and commits, so that it fails where a full disk, and hangs
-- where a lost synchronous standby, would keep a login from being recorded.
-- +goose StatementBegin
CREATE FUNCTION latchkey_take_write() RETURNS void LANGUAGE plpgsql SET lock_timeout = '1s' SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO store_checks VALUES (repeat('x', 1000));
    RAISE 'taken back' USING ERRCODE = 'LK000';
EXCEPTION WHEN SQLSTATE 'LK000' THEN
    NULL;
END
$$;
-- +goose StatementEnd

-- Sessions of which Redis held this generation or a later one: of their refresh tokens
-- the ones below are spent. A row is written rarely, and goes with its session.
CREATE TABLE session_marks (
    session_id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    generation bigint NOT NULL,
    -- When this generation was made.
    marked_at timestamptz NOT NULL,
    -- The session has ended for certain, and the row goes.
    keep_until timestamptz NOT NULL
);

CREATE INDEX session_marks_user_id ON session_marks (user_id);

CREATE INDEX session_marks_keep_until ON session_marks (keep_until);

-- What the ledger has ended needs no mark. So an account has no more of them than it has
-- live sessions, and a few whose refresh was under way.
-- +goose StatementBegin
CREATE FUNCTION latchkey_drop_marks() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.kind = 'session' THEN
        DELETE FROM session_marks m WHERE m.session_id = NEW.session_id AND m.user_id = NEW.user_id;
    ELSE
        DELETE FROM session_marks m WHERE m.user_id = NEW.user_id AND m.session_id IS DISTINCT FROM NEW.except_session_id;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- The table is locked for a moment: appends wait, readers do not.
CREATE TRIGGER latchkey_drop_marks AFTER INSERT ON revocations
    FOR EACH ROW WHEN (NEW.kind IN ('session', 'user')) EXECUTE FUNCTION latchkey_drop_marks();

-- +goose Down
DROP TRIGGER latchkey_drop_marks ON revocations;
DROP FUNCTION latchkey_drop_marks();
DROP TABLE session_marks;
DROP FUNCTION latchkey_take_write();
DROP TABLE store_checks;
DROP FUNCTION latchkey_on_primary();
