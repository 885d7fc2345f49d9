-- Scans. One whose job has ended without it says what became of the job.

-- name: begin_scan
-- The scan of this job; an attempt that comes later goes on with it.
insert into scans as s (job_id, company_id, members, correlation_id)
values ($1, $2, $3, $4)
on conflict (job_id) do update set job_id = excluded.job_id
returning s.id, s.number, s.status;

-- name: finish_scan
update scans set status = $2, finished_at = clock_timestamp() where id = $1 and status is null;

-- name: find_scan
select
    s.id, s.number, s.job_id, s.company_id, s.started_at, coalesce(s.finished_at, j.finished_at) as finished_at,
    coalesce(s.status, case when j.state in ('queued', 'running') then 'running' when j.state = 'cancelled' then 'cancelled' else 'failed' end)
        as status,
    s.members, s.correlation_id
from scans s
join jobs j on j.id = s.job_id
where s.id = $1 and ($2::uuid is null or s.company_id = $2);

-- name: find_scan_of_job
select
    s.id, s.number, s.job_id, s.company_id, s.started_at, coalesce(s.finished_at, j.finished_at) as finished_at,
    coalesce(s.status, case when j.state in ('queued', 'running') then 'running' when j.state = 'cancelled' then 'cancelled' else 'failed' end)
        as status,
    s.members, s.correlation_id
from scans s
join jobs j on j.id = s.job_id
where s.job_id = $1;

-- name: list_scans
-- Of one company, the newest first, from below the last one of the page before.
select
    s.id, s.number, s.job_id, s.company_id, s.started_at, coalesce(s.finished_at, j.finished_at) as finished_at,
    coalesce(s.status, case when j.state in ('queued', 'running') then 'running' when j.state = 'cancelled' then 'cancelled' else 'failed' end)
        as status,
    s.members, s.correlation_id
from scans s
join jobs j on j.id = s.job_id
where s.company_id = $1 and s.number < coalesce($2::bigint, 9223372036854775807)
order by s.company_id desc, s.number desc
limit $3;
