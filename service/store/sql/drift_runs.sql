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
-- Here and below: a run that its job has ended without, cancelled or given up, has ended with it and says nothing.
select
    r.id, r.job_id, r.read_model, r.mode, r.started_at, e.finished_at, e.verdict, r.compared, r.out_of_sync, r.errors, r.healed,
    r.truncated, r.streak, r.promoted, e.error, r.correlation_id
from drift_runs r
join jobs j on j.id = r.job_id
cross join lateral (
    select
        coalesce(r.finished_at, j.finished_at) as finished_at,
        coalesce(r.verdict, case when j.finished_at is not null then 'inconclusive' end) as verdict,
        case
            when r.finished_at is not null then r.error
            when j.finished_at is not null then coalesce(j.error, case j.state
                when 'cancelled' then 'its job was cancelled'
                else 'its job ended without it'
            end)
        end as error
) e
where r.id = $1;

-- name: list_drift_runs
-- The newest first, of all read models or one, of all jobs or one.
select
    r.id, r.job_id, r.read_model, r.mode, r.started_at, e.finished_at, e.verdict, r.compared, r.out_of_sync, r.errors, r.healed,
    r.truncated, r.streak, r.promoted, e.error, r.correlation_id
from drift_runs r
join jobs j on j.id = r.job_id
cross join lateral (
    select
        coalesce(r.finished_at, j.finished_at) as finished_at,
        coalesce(r.verdict, case when j.finished_at is not null then 'inconclusive' end) as verdict,
        case
            when r.finished_at is not null then r.error
            when j.finished_at is not null then coalesce(j.error, case j.state
                when 'cancelled' then 'its job was cancelled'
                else 'its job ended without it'
            end)
        end as error
) e
where ($1::text is null or r.read_model = $1) and ($2::uuid is null or r.job_id = $2)
order by r.started_at desc, r.id desc
limit $3;

-- name: page_drift_runs
-- What one may see: the runs of a company's own directories, and with $2 those over all companies. The newest first, below the last one
-- of the page before; of all read models or one, of all jobs or one.
select
    r.id, r.job_id, r.read_model, r.mode, r.started_at, e.finished_at, e.verdict, r.compared, r.out_of_sync, r.errors, r.healed,
    r.truncated, r.streak, r.promoted, e.error, r.correlation_id
from drift_runs r
join jobs j on j.id = r.job_id
cross join lateral (
    select
        coalesce(r.finished_at, j.finished_at) as finished_at,
        coalesce(r.verdict, case when j.finished_at is not null then 'inconclusive' end) as verdict,
        case
            when r.finished_at is not null then r.error
            when j.finished_at is not null then coalesce(j.error, case j.state
                when 'cancelled' then 'its job was cancelled'
                else 'its job ended without it'
            end)
        end as error
) e
where (
        r.read_model in (select 'directory:' || c.id from connections c where c.company_id = $1)
        or ($2::boolean and r.read_model not like 'directory:%')
    )
    and ($3::text is null or r.read_model = $3)
    and ($4::uuid is null or r.job_id = $4)
    and ($5::timestamptz is null or (r.started_at, r.id) < ($5, $6::uuid))
order by r.started_at desc, r.id desc
limit $7;

-- name: find_visible_drift_run
-- One that is seen so.
select
    r.id, r.job_id, r.read_model, r.mode, r.started_at, e.finished_at, e.verdict, r.compared, r.out_of_sync, r.errors, r.healed,
    r.truncated, r.streak, r.promoted, e.error, r.correlation_id
from drift_runs r
join jobs j on j.id = r.job_id
cross join lateral (
    select
        coalesce(r.finished_at, j.finished_at) as finished_at,
        coalesce(r.verdict, case when j.finished_at is not null then 'inconclusive' end) as verdict,
        case
            when r.finished_at is not null then r.error
            when j.finished_at is not null then coalesce(j.error, case j.state
                when 'cancelled' then 'its job was cancelled'
                else 'its job ended without it'
            end)
        end as error
) e
where r.id = $3
    and (
        r.read_model in (select 'directory:' || c.id from connections c where c.company_id = $1)
        or ($2::boolean and r.read_model not like 'directory:%')
    );
