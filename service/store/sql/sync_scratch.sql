-- What running syncs keep in sync_staging and sync_delta for their time, both together.

-- name: measure_scratch
select pg_relation_size('sync_staging') + pg_relation_size('sync_delta');

-- name: lock_scratch
lock table sync_staging, sync_delta in access exclusive mode nowait;

-- name: is_scratch_of_others
select exists (select from sync_staging where job_id <> $1) or exists (select from sync_delta where job_id <> $1);

-- name: empty_scratch
truncate sync_staging, sync_delta;
