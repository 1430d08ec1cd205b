-- latchkey_refusals is the one rule of what the ledger's rows refuse. Each query had its own copy before: if one copy
-- changed alone, a replica that asks PostgreSQL would accept what another refuses from memory.
--
-- locks: nothing

-- +goose Up

-- Returns the positions of the rows that refuse a token or a link with this account, session, position and key. Pass
-- NULL for what it does not have: no row about that refuses it then, and no exception saves it.
--
-- A row of kind session refuses that session of that account. A row of kind user (of that account) or of kind all
-- refuses every lower position, except in the session that the row names as its exception. A row of kind key refuses
-- what the key signed. revocations.Table is the same rule in memory; TestRefusesAsSQL compares the two.
--
-- It is for FROM. PostgreSQL puts the text of such a function into the statement that calls it, so that each branch
-- has its index and costs what it would cost there; this needs SQL, STABLE, a set as the result, and no SET clause.
-- A scalar function took 0.1 ms longer for each call.
-- +goose StatementBegin
CREATE FUNCTION latchkey_refusals(of_user uuid, of_session uuid, at_position bigint, of_key text) RETURNS SETOF bigint
LANGUAGE sql STABLE AS $$
    SELECT r.seq FROM revocations r WHERE r.kind = 'session' AND r.session_id = of_session AND r.user_id = of_user
    UNION ALL
    SELECT r.seq FROM revocations r
    WHERE r.kind = 'user' AND r.user_id = of_user AND r.seq > at_position
        AND (r.except_session_id = of_session) IS NOT TRUE
    UNION ALL
    SELECT r.seq FROM revocations r
    WHERE r.kind = 'all' AND r.seq > at_position AND (r.except_session_id = of_session) IS NOT TRUE
    UNION ALL
    SELECT r.seq FROM revocations r WHERE r.kind = 'key' AND r.key_id = of_key
$$;
-- +goose StatementEnd

-- Returns whether a mailed link that was requested at this position is dead: a later row ended the account's sessions,
-- all of them or all but one, or the account's address changed.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_ended_since(user_id uuid, ledger bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT EXISTS (SELECT FROM latchkey_refusals($1, NULL, $2, NULL))
        OR EXISTS (SELECT FROM address_changes c WHERE c.user_id = $1 AND c.seq > $2)
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION latchkey_ended_since(user_id uuid, ledger bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT EXISTS (SELECT FROM revocations r WHERE r.kind = 'user' AND r.user_id = $1 AND r.seq > $2)
        OR EXISTS (SELECT FROM revocations r WHERE r.kind = 'all' AND r.seq > $2)
        OR EXISTS (SELECT FROM address_changes c WHERE c.user_id = $1 AND c.seq > $2)
$$;
-- +goose StatementEnd

DROP FUNCTION latchkey_refusals(uuid, uuid, bigint, text);
