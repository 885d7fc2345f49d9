-- name: discard_staging
-- Of this job, and whatever attempts left behind that ended without a word.
delete from sync_staging s
where s.job_id = $1 or not exists (select from jobs j where j.id = s.job_id and j.state = 'running');

-- name: analyze_staging
analyze sync_staging;

-- name: count_keys
-- Of one reading: its distinct keys, the records that repeat one, those that have none, and the newest of their updates.
select
    count(external_id) as keys,
    coalesce(sum(times) filter (where external_id is not null) - count(external_id), 0)::bigint as repetitions,
    coalesce(sum(times) filter (where external_id is null), 0)::bigint as keyless,
    max(newest_update) as newest_update
from (
    select external_id, count(*) as times, max(updated_at) as newest_update
    from sync_staging
    where job_id = $1 and reading = $2
    group by external_id
) k;

-- name: count_staged
select count(*) from sync_staging where job_id = $1 and reading = $2;

-- name: mark_contradictions
-- Keys of which the snapshot tells more than one thing, the versions being no help: nothing of that is taken.
update sync_staging s
set contradicts = true, source_hash = null, content = null, national_id = null, reason = $2
from (
    select external_id
    from (
        select external_id, source_hash, version, max(version) over (partition by external_id) as newest,
            count(*) over (partition by external_id) as times
        from sync_staging
        where job_id = $1 and reading = 1 and external_id is not null
    ) t
    where times > 1 and version is not distinct from newest
    group by external_id
    having count(distinct coalesce(source_hash, ''::bytea)) > 1
) c
where s.job_id = $1 and s.reading = 1 and s.external_id = c.external_id;

-- name: delete_repetitions
-- One record stays of each key, the newest.
delete from sync_staging s
using (
    select ctid, row_number() over (partition by external_id order by version desc nulls last, ctid) as place
    from sync_staging
    where job_id = $1 and reading = 1 and external_id is not null
) t
where s.ctid = t.ctid and t.place > 1;
