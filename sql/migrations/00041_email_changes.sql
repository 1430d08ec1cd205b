-- Changes of address, and the links that undo them. docs/decisions/2026-11-30-change-of-address.md says why they are as they
-- are.
--
-- locks: nothing

-- +goose Up

-- The defaults are constant, so that no row is written. They are also for replicas of the version before.
ALTER TABLE one_time_secrets
    -- The address that the secret gives to the account, as it was typed. NULL: none.
    ADD COLUMN new_email text,
    -- Whether the secret stays when the account's sessions are ended: the undo of a change of address does. A thief who has
    -- changed the address could otherwise end it with a new password.
    ADD COLUMN lasting boolean NOT NULL DEFAULT false,
    -- What the purpose needs when the secret is spent.
    ADD COLUMN data bytea;

-- A try at a code writes its row. With room on the page it writes no index, as for the decoys of addresses without a code,
-- and takes as long.
ALTER TABLE other_secrets SET (fillfactor = 50);

-- As before, and leaves lasting secrets.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_end_secrets(of_user uuid) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM one_time_secrets WHERE (user_id, purpose, asker) IN (
        SELECT s.user_id, s.purpose, s.asker FROM one_time_secrets s
        WHERE (s.user_id = of_user OR of_user IS NULL) AND NOT s.lasting FOR UPDATE SKIP LOCKED
    );
END
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_end_secrets(of_user uuid) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM one_time_secrets WHERE (user_id, purpose, asker) IN (
        SELECT s.user_id, s.purpose, s.asker FROM one_time_secrets s
        WHERE s.user_id = of_user OR of_user IS NULL FOR UPDATE SKIP LOCKED
    );
END
$$;
-- +goose StatementEnd

ALTER TABLE other_secrets RESET (fillfactor);
DELETE FROM one_time_secrets WHERE purpose IN ('change_email', 'undo_email_change');
ALTER TABLE one_time_secrets DROP COLUMN new_email, DROP COLUMN lasting, DROP COLUMN data;
