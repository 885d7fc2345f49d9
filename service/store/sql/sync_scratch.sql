-- What running syncs keep in sync_pages, sync_staging and sync_delta for their time, all together.

-- name: measure_scratch
select pg_table_size('sync_pages') + pg_relation_size('sync_staging') + pg_relation_size('sync_delta');

-- name: lock_scratch
lock table sync_pages, sync_staging, sync_delta in access exclusive mode nowait;

-- name: is_scratch_of_others
select exists (select from sync_pages where job_id <> $1)
    or exists (select from sync_staging where job_id <> $1)
    or exists (select from sync_delta where job_id <> $1);

-- name: empty_scratch
truncate sync_pages, sync_staging, sync_delta;
