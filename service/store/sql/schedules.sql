-- Schedules: next_run_at is compared with the database's clock only, whatever the clock of whoever ticks.

-- name: claim_due_schedules
-- Up to $2 of these kinds that are due, locked; what another tick looks at is its own. Not due is what has a job queued or running or
-- loses its members by one, a connection that is blocked, archived, pushed to us or no directory, one whose last sync waits for somebody
-- to look at it, and the scan of a company that has no providers for it.
-- `offset 0`: each is asked for by its key. As joins, planned while nothing runs, they would read all that runs once for each schedule.
select
    s.id, s.company_id, s.kind, s.subject_id, s.parameters, s.interval_ms, s.cron, s.time_zone, s.next_run_at,
    statement_timestamp() as claimed_at
from schedules s
left join connections c on c.id = s.subject_id and s.kind = 'directory_sync'
where s.enabled and s.kind = any ($1::text[]) and s.next_run_at <= statement_timestamp()
    and (s.kind <> 'directory_sync' or (c.status = 'active' and c.kind <> 'scim' and c.directory is not null))
    and (s.kind <> 'scan' or exists (select from companies k where k.id = s.company_id and k.scan_providers <> '{}' offset 0))
    and not exists (
        select from sync_log l
        where l.connection_id = c.id and l.status = 'quarantined' and l.review is null and not l.dry_run
    )
    and not exists (
        select from jobs j
        where j.kind = s.kind and j.subject_id = s.subject_id and j.state in ('queued', 'running')
        offset 0
    )
    and (s.kind <> 'directory_sync' or not exists (
        select from jobs j
        where j.kind = 'connection_removal' and j.subject_id = s.subject_id and j.state in ('queued', 'running')
        offset 0
    ))
    and (s.subject_id is not null or not exists (
        select from jobs j
        where j.kind = s.kind and j.subject_id is null and j.state in ('queued', 'running')
        offset 0
    ))
order by s.next_run_at
limit $2
for update of s skip locked;

-- name: advance_schedules
-- Stamped before the work begins: whatever becomes of it, this slot is not due again.
update schedules s set last_run_at = statement_timestamp(), next_run_at = a.next_run_at, skipped = s.skipped + a.skipped
from unnest($1::uuid[], $2::timestamptz[], $3::bigint[]) as a (id, next_run_at, skipped)
where s.id = a.id;

-- name: disable_schedules
update schedules set enabled = false where id = any ($1::uuid[]);

-- name: offer_schedule
-- A schedule that is due at once; nothing where the subject has one of the kind, whatever somebody has made of it.
insert into schedules (company_id, kind, subject_id, interval_ms, parameters, next_run_at)
values ($1, $2, $3, $4, $5, statement_timestamp())
on conflict on constraint schedules_by_subject do nothing
returning id;

-- name: offer_cron_schedule
-- A schedule by a cron expression; nothing where the subject has one of the kind, whatever somebody has made of it.
insert into schedules (company_id, kind, subject_id, cron, time_zone, next_run_at)
values ($1, $2, $3, $4, $5, $6)
on conflict on constraint schedules_by_subject do nothing
returning id;

-- name: set_interval
-- The subject's schedule of the kind, made where there is none; a shorter interval is due sooner, a longer one as it was. One that was
-- off begins anew: the slots of that time were not left out, there were none.
insert into schedules as s (company_id, kind, subject_id, interval_ms, parameters, next_run_at)
values ($1, $2, $3, $4, $5, statement_timestamp())
on conflict on constraint schedules_by_subject do update set
    interval_ms = excluded.interval_ms,
    cron = null,
    time_zone = null,
    enabled = true,
    next_run_at = case
        when s.enabled then least(s.next_run_at, statement_timestamp() + excluded.interval_ms * interval '1 millisecond')
        else statement_timestamp()
    end
    where (s.interval_ms, s.enabled) is distinct from (excluded.interval_ms, true)
returning id;

-- name: set_mode
-- What the jobs of the subject's schedule are asked for, on or off; nothing where there is no schedule.
update schedules set parameters = parameters || jsonb_build_object('mode', $3::text)
where kind = $1 and subject_id = $2
returning id;

-- name: stop_schedule
-- No more runs of the kind for the subject; what it has counted stays.
update schedules set enabled = false where kind = $1 and subject_id = $2;

-- name: find_schedule
select id, company_id, kind, subject_id, interval_ms, cron, time_zone, next_run_at, last_run_at, skipped, enabled,
    parameters ->> 'mode' as mode
from schedules
where kind = $1 and subject_id = $2;

-- name: list_schedules
-- All, or one company's, after the last one of the page before; the next to run first.
select id, company_id, kind, subject_id, interval_ms, cron, time_zone, next_run_at, last_run_at, skipped, enabled,
    parameters ->> 'mode' as mode
from schedules
where ($1::uuid is null or company_id = $1) and ($2::timestamptz is null or (next_run_at, id) > ($2, $3::uuid))
order by next_run_at, id
limit $4;
