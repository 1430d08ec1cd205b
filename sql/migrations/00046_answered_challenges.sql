-- The challenge of a login has a row from its first answer on: what it asks is in its token, sealed. So the row must stay
-- when it is answered, until the token has expired: docs/decisions/2026-11-30-second-factors.md. Replicas of the version
-- before still write device_id and first_amr.
--
-- locks: nothing

-- +goose Up
ALTER TABLE challenges ADD COLUMN spent boolean NOT NULL DEFAULT false;

-- As before, in a language that keeps its plan: SQL planned the look at each call, which took 0.03 ms, and a login with a
-- code looks twice.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_ended_since(user_id uuid, ledger bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    RETURN EXISTS (SELECT FROM latchkey_refusals($1, NULL, $2, NULL))
        OR EXISTS (SELECT FROM address_changes c WHERE c.user_id = $1 AND c.seq > $2);
END
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_ended_since(user_id uuid, ledger bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT EXISTS (SELECT FROM latchkey_refusals($1, NULL, $2, NULL))
        OR EXISTS (SELECT FROM address_changes c WHERE c.user_id = $1 AND c.seq > $2)
$$;
-- +goose StatementEnd

ALTER TABLE challenges DROP COLUMN spent;
