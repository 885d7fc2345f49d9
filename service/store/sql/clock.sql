-- name: read_clock
-- The one clock that all instances share.
select clock_timestamp();
