-- The table of the backends that Latchkey takes over from, to the letter: on
-- their databases every statement finds its work done and changes nothing. Their
-- own record, schema_migrations, is left alone so that they can still start.
--
-- locks: users SHARE, makes index idx_users_email where it is missing
-- locks: users SHARE, makes index idx_users_created_at where it is missing

-- +goose Up
CREATE TABLE IF NOT EXISTS users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email varchar(255) NOT NULL UNIQUE,
    password_hash text NOT NULL,
    first_name varchar(100) NOT NULL,
    last_name varchar(100) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    last_login_at timestamptz,
    is_active boolean NOT NULL DEFAULT true,
    is_verified boolean NOT NULL DEFAULT false
);

CREATE INDEX IF NOT EXISTS idx_users_email ON users (email);

CREATE INDEX IF NOT EXISTS idx_users_created_at ON users (created_at);

-- Made only where it is missing: replacing the old backend's function would need
-- its owner's rights, and CREATE TRIGGER would lock a table in use.
-- +goose StatementBegin
DO $$
BEGIN
    IF to_regprocedure('update_updated_at_column()') IS NULL THEN
        CREATE FUNCTION update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS $f$
        BEGIN
            NEW.updated_at = NOW();
            RETURN NEW;
        END;
        $f$;
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = 'users'::regclass AND tgname = 'update_users_updated_at'
    ) THEN
        CREATE TRIGGER update_users_updated_at BEFORE UPDATE ON users
            FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose Down
-- Nothing: the table may be older than Latchkey, and accounts outlive any way back.
SELECT 1;
