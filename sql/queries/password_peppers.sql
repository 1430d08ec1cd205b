-- NoteImportedPeppers notes the peppers of accounts that the transaction imports.
-- name: NoteImportedPeppers :exec
INSERT INTO password_peppers (id, imported_at) SELECT unnest(@ids::text[]), now()
ON CONFLICT (id) DO UPDATE SET imported_at = excluded.imported_at;

-- NoteServedPeppers notes the peppers that a replica has.
-- name: NoteServedPeppers :exec
INSERT INTO password_peppers (id, served_at) SELECT unnest(@ids::text[]), now()
ON CONFLICT (id) DO UPDATE SET served_at = excluded.served_at;

-- ImportedPeppers are those that an account may still need.
-- name: ImportedPeppers :many
SELECT id, imported_at::timestamptz AS imported_at FROM password_peppers
WHERE latchkey_on_primary() AND imported_at IS NOT NULL ORDER BY id;

-- PepperServed says whether a replica has a pepper. Each one says so every 10 minutes.
-- name: PepperServed :one
SELECT EXISTS (
    SELECT FROM password_peppers WHERE id = @id AND served_at > now() - interval '30 minutes'
) WHERE latchkey_on_primary();

-- CountPeppered counts up to 1,000 accounts whose hash begins so. If there are fewer, it reads the whole table.
-- name: CountPeppered :one
SELECT count(*) FROM (SELECT FROM users WHERE password_hash LIKE @prefix::text LIMIT 1000) AS found
WHERE latchkey_on_primary();

-- ForgetPepper notes that no account needs a pepper any more, unless accounts were imported meanwhile.
-- name: ForgetPepper :exec
UPDATE password_peppers SET imported_at = NULL WHERE id = @id AND imported_at = @imported_at::timestamptz;
