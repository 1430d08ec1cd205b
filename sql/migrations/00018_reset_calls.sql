-- A request for a reset link keeps the id of its call, for the event that the link makes.
--
-- The default is constant, so that no row is written: the table is small and locked for a
-- moment. Versions from before leave it empty.
--
-- locks: nothing

-- +goose Up
ALTER TABLE reset_requests ADD COLUMN call_id text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE reset_requests DROP COLUMN call_id;
