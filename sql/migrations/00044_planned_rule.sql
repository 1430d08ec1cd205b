-- latchkey_ended_since keeps its plan. PostgreSQL plans a function in SQL that it cannot put into the query again at each
-- call, which took 0.4 ms of each answer to a challenge, twice; PL/pgSQL plans it once a connection.
--
-- locks: nothing

-- +goose Up
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
