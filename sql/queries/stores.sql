-- OnPrimary fails with SQLSTATE 25006 on a server where nothing can be decided.
-- name: OnPrimary :exec
SELECT latchkey_on_primary();

-- TakeWrite fails, or hangs, if the server can write nothing.
-- name: TakeWrite :exec
SELECT latchkey_take_write();
