-- Password hashes that other programs made with a pepper name it by its ID: {PEPPER-SUFFIX:1A2B3C4D}$2a$… The pepper itself is
-- in the settings of the service and never here. This table says which peppers were imported and which ones a service has, so
-- that an import and the service can both say when one is missing. docs/decisions/2026-11-29-peppers.md says why.
--
-- locks: nothing

-- +goose Up
CREATE TABLE password_peppers (
    -- The ID of password.Pepper.
    id text PRIMARY KEY,
    -- When an account was last imported whose hash names it. NULL: no account that is left.
    imported_at timestamptz,
    -- When a replica last said that it has it. NULL: never.
    served_at timestamptz
);

-- +goose Down
DROP TABLE password_peppers;
