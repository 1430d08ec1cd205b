-- The revocation ledger. Every session and access token carries the head's seq of
-- the moment in which its account was read; a row of kind user or all refuses
-- whatever carries a lower one, so clocks play no part.
--
-- locks: nothing

-- +goose Up
CREATE TABLE ledger_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seq bigint NOT NULL,
    -- Changes with every append: tells apart two histories that reached the same seq.
    tip uuid NOT NULL
);

INSERT INTO ledger_head (seq, tip) VALUES (0, gen_random_uuid());

-- No foreign keys: deleting an account must not erase a revocation.
CREATE TABLE revocations (
    seq bigint PRIMARY KEY,
    tip uuid NOT NULL,
    -- session: session_id of user_id. user: all of user_id but except_session_id.
    -- all: everybody's. key: whatever key_id signed.
    kind text NOT NULL CHECK (kind IN ('session', 'user', 'all', 'key')),
    session_id uuid,
    user_id uuid,
    except_session_id uuid,
    key_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- The row says nothing new after this time: what it refuses has expired.
    keep_until timestamptz NOT NULL
);

CREATE INDEX revocations_session_id ON revocations (session_id) WHERE kind = 'session';

CREATE INDEX revocations_user_id ON revocations (user_id, seq) WHERE kind = 'user';

CREATE INDEX revocations_all ON revocations (seq) WHERE kind = 'all';

-- Appends one row and returns its seq, in the caller's transaction and as its last
-- lock: the head row makes the order of numbers the order of commits. Each
-- timeline of the server starts numbers of its own, so that a failover to a
-- standby that missed the tail cannot use a number again.
-- +goose StatementBegin
CREATE FUNCTION latchkey_append_revocation(
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

-- +goose Down
DROP FUNCTION latchkey_append_revocation(text, uuid, uuid, uuid, text, timestamptz);
DROP TABLE revocations;
DROP TABLE ledger_head;
