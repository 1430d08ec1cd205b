-- Accounts are deleted by their owners and by operators, at once or after a time in which they can be kept.
-- docs/decisions/2026-11-30-deletion.md says why it is as it is.
--
-- The foreign key and the trigger lock users for a moment: writers of accounts wait, readers do not.
--
-- locks: users SHARE ROW EXCLUSIVE, adds table account_deletions, which refers to users
-- locks: users SHARE ROW EXCLUSIVE, adds trigger latchkey_deletion_cancelled

-- +goose Up

-- Accounts that will be deleted. They are not active (users.is_active), so that replicas of the version before and older
-- backends refuse them too.
CREATE TABLE account_deletions (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    requested_at timestamptz NOT NULL,
    -- From then on the account cannot be kept any more, and the next sweep deletes it.
    delete_at timestamptz NOT NULL,
    -- An operator has suspended the account too: it is not active after its deletion is cancelled either.
    suspended boolean NOT NULL
);
CREATE INDEX account_deletions_delete_at ON account_deletions (delete_at, user_id);

-- Whatever program makes the account active again has cancelled its deletion: an account that is in use is never deleted.
-- +goose StatementBegin
CREATE FUNCTION latchkey_deletion_cancelled() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM account_deletions WHERE user_id = NEW.id;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER latchkey_deletion_cancelled AFTER UPDATE OF is_active ON users
    FOR EACH ROW WHEN (NEW.is_active AND NOT OLD.is_active) EXECUTE FUNCTION latchkey_deletion_cancelled();

-- The addresses to which the last mail of a deleted account goes. A row is deleted when its mail was sent.
CREATE TABLE farewell_mails (
    id uuid PRIMARY KEY,
    address text NOT NULL,
    made_at timestamptz NOT NULL
);
CREATE INDEX farewell_mails_made_at ON farewell_mails (made_at);

-- Why the row was appended, beside its kind: user_deleted, or nothing. Readers that do not know a reason lose nothing: the
-- kind says what is refused. The default is constant, so that no row is written.
ALTER TABLE revocations ADD COLUMN reason text NOT NULL DEFAULT '';

-- A row about an account that is gone when the row is appended says so, whatever program has deleted it.
-- +goose StatementBegin
CREATE FUNCTION latchkey_note_deletion() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM users u WHERE u.id = NEW.user_id) THEN
        NEW.reason := 'user_deleted';
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd

-- The table is locked for a moment: appends wait, readers do not.
CREATE TRIGGER latchkey_note_deletion BEFORE INSERT ON revocations
    FOR EACH ROW WHEN (NEW.kind = 'user') EXECUTE FUNCTION latchkey_note_deletion();

-- +goose Down
DROP TRIGGER latchkey_note_deletion ON revocations;
DROP FUNCTION latchkey_note_deletion();
ALTER TABLE revocations DROP COLUMN reason;
DROP TABLE farewell_mails;
-- Accounts that were to be deleted stay suspended.
DROP TRIGGER latchkey_deletion_cancelled ON users;
DROP FUNCTION latchkey_deletion_cancelled();
DROP TABLE account_deletions;
