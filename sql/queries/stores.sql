-- OnPrimary fails with SQLSTATE 25006 where nothing can be decided.
-- name: OnPrimary :exec
SELECT latchkey_on_primary();

-- TakeWrite fails, or hangs, where nothing can be written.
-- name: TakeWrite :exec
SELECT latchkey_take_write();
