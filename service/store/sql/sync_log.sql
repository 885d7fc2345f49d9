-- name: begin_sync
-- The run of this job; an attempt that goes on with it counts anew what it finds, and goes on counting what was applied.
insert into sync_log as l (job_id, company_id, connection_id, type, mode, dry_run, baseline, approves, correlation_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (job_id) where status = 'pending' do update set
    mode = excluded.mode,
    snapshot_began_at = excluded.snapshot_began_at,
    fetched = 0,
    verified = 0,
    left_alone = 0,
    error_count = 0,
    added = case when l.dry_run then 0 else l.added end,
    updated = case when l.dry_run then 0 else l.updated end,
    reactivated = case when l.dry_run then 0 else l.reactivated end,
    removed = case when l.dry_run then 0 else l.removed end
returning id, snapshot_began_at, added, updated, reactivated, removed;

-- name: end_forsaken_syncs
-- One sync of a connection runs at a time: other runs of it have ended without a word.
update sync_log
set status = 'failed', finished_at = clock_timestamp(), error = 'it was cancelled, or its worker ended without a word'
where connection_id = $1 and status = 'pending' and job_id <> $2;

-- name: add_counts
-- What came of a batch, in its own transaction.
update sync_log
set
    added = added + $2,
    updated = updated + $3,
    reactivated = reactivated + $4,
    removed = removed + $5,
    verified = verified + $6,
    left_alone = left_alone + $7,
    error_count = error_count + $8
where id = $1;

-- name: finish_sync
update sync_log
set status = $2, finished_at = clock_timestamp(), mode = $3, fetched = $4, error = $5, details = $6
where id = $1 and status = 'pending';

-- name: review_sync
-- What somebody, or a newer sync, makes of the open quarantine of a job.
update sync_log
set review = $2, reviewed_by = $3, reviewed_at = clock_timestamp()
where job_id = $1 and status = 'quarantined' and review is null and not dry_run
returning id;

-- name: list_open_quarantines
-- Jobs of the connection that wait for somebody.
select job_id from sync_log
where connection_id = $1 and status = 'quarantined' and review is null and not dry_run
order by job_id;

-- name: find_sync
select
    l.id, l.job_id, l.company_id, l.connection_id, l.type, l.mode, l.dry_run, l.baseline,
    case when l.status = 'pending' and j.state not in ('queued', 'running') then 'failed' else l.status end as status,
    l.started_at, coalesce(l.finished_at, j.finished_at) as finished_at, l.fetched, l.added, l.updated, l.reactivated, l.removed,
    l.verified, l.left_alone, l.error_count,
    case when l.status = 'pending' and j.state not in ('queued', 'running') then coalesce(j.error, j.state) else l.error end as error,
    l.details, l.approves, l.review, l.reviewed_at, l.reviewed_by, l.correlation_id
from sync_log l
join jobs j on j.id = l.job_id
where l.id = $1 and ($2::uuid is null or l.company_id = $2);

-- name: find_last_sync_of_job
-- The newest run of a job.
select
    l.id, l.job_id, l.company_id, l.connection_id, l.type, l.mode, l.dry_run, l.baseline,
    case when l.status = 'pending' and j.state not in ('queued', 'running') then 'failed' else l.status end as status,
    l.started_at, coalesce(l.finished_at, j.finished_at) as finished_at, l.fetched, l.added, l.updated, l.reactivated, l.removed,
    l.verified, l.left_alone, l.error_count,
    case when l.status = 'pending' and j.state not in ('queued', 'running') then coalesce(j.error, j.state) else l.error end as error,
    l.details, l.approves, l.review, l.reviewed_at, l.reviewed_by, l.correlation_id
from sync_log l
join jobs j on j.id = l.job_id
where l.job_id = $1
order by l.started_at desc
limit 1;

-- name: list_syncs
-- Runs of all companies, of one, or of one of its connections, the newest first, from below the last one of the page before.
select
    l.id, l.job_id, l.company_id, l.connection_id, l.type, l.mode, l.dry_run, l.baseline,
    case when l.status = 'pending' and j.state not in ('queued', 'running') then 'failed' else l.status end as status,
    l.started_at, coalesce(l.finished_at, j.finished_at) as finished_at, l.fetched, l.added, l.updated, l.reactivated, l.removed,
    l.verified, l.left_alone, l.error_count,
    case when l.status = 'pending' and j.state not in ('queued', 'running') then coalesce(j.error, j.state) else l.error end as error,
    l.details, l.approves, l.review, l.reviewed_at, l.reviewed_by, l.correlation_id
from sync_log l
join jobs j on j.id = l.job_id
where ($1::uuid is null or l.company_id = $1)
    and ($2::uuid is null or l.connection_id = $2)
    and ($3::timestamptz is null or (l.started_at, l.id) < ($3, $4::uuid))
order by l.started_at desc, l.id desc
limit $5;

-- name: list_baselines
-- Which of these runs were first imports.
select distinct correlation_id from sync_log where correlation_id = any ($1::text[]) and baseline and not dry_run;
