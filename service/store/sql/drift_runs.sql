-- name: begin_drift_run
-- The run of this job and read model; an attempt that goes on with it counts anew. No row where an earlier one has ended it.
insert into drift_runs as r (job_id, read_model, mode, correlation_id)
values ($1, $2, $3, $4)
on conflict on constraint drift_runs_by_job do update set started_at = excluded.started_at
    where r.finished_at is null
returning id;

-- name: finish_drift_run
update drift_runs
set finished_at = clock_timestamp(), verdict = $2, compared = $3, out_of_sync = $4, errors = $5, truncated = $6, streak = $7,
    promoted = $8, error = $9
where id = $1 and finished_at is null
returning finished_at;

-- name: count_healed
update drift_runs set healed = healed + $2 where id = $1;

-- name: find_drift_run
select id, job_id, read_model, mode, started_at, finished_at, verdict, compared, out_of_sync, errors, healed, truncated, streak, promoted,
    error, correlation_id
from drift_runs
where id = $1;

-- name: list_drift_runs
-- The newest first, of all read models or one, of all jobs or one.
select id, job_id, read_model, mode, started_at, finished_at, verdict, compared, out_of_sync, errors, healed, truncated, streak, promoted,
    error, correlation_id
from drift_runs
where ($1::text is null or read_model = $1) and ($2::uuid is null or job_id = $2)
order by started_at desc, id desc
limit $3;

-- name: page_drift_runs
-- What one may see: the runs of a company's own directories, and with $2 those over all companies. The newest first, below the last one
-- of the page before; of all read models or one, of all jobs or one.
select id, job_id, read_model, mode, started_at, finished_at, verdict, compared, out_of_sync, errors, healed, truncated, streak, promoted,
    error, correlation_id
from drift_runs
where (
        read_model in (select 'directory:' || c.id from connections c where c.company_id = $1)
        or ($2::boolean and read_model not like 'directory:%')
    )
    and ($3::text is null or read_model = $3)
    and ($4::uuid is null or job_id = $4)
    and ($5::timestamptz is null or (started_at, id) < ($5, $6::uuid))
order by started_at desc, id desc
limit $7;

-- name: find_visible_drift_run
-- One that is seen so.
select id, job_id, read_model, mode, started_at, finished_at, verdict, compared, out_of_sync, errors, healed, truncated, streak, promoted,
    error, correlation_id
from drift_runs
where id = $3
    and (
        read_model in (select 'directory:' || c.id from connections c where c.company_id = $1)
        or ($2::boolean and read_model not like 'directory:%')
    );
