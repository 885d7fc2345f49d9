-- name: list_history
-- Versions of a member of a company, the newest first, below the last one of the page before.
select
    version, occurred_at, reason_code, actor, correlation_id, previous_state, new_state, changed_fields, before, after, connection_id,
    external_id, plan, starts_at, expires_at
from member_events
where member_id = $1 and company_id = $2 and ($3::bigint is null or version < $3)
order by version desc
limit $4;

-- name: erase_history
-- In the audit of a member, of the named fields only that they were changed.
update member_events
set before = before || personal.blanks, after = after || personal.blanks
from (
    select e.id, jsonb_object_agg(field, null) as blanks
    from member_events e
    cross join unnest($2::text[]) as field
    where e.member_id = $1 and e.before ? field
    group by e.id
) as personal
where member_events.id = personal.id;

-- name: erase_entries
-- In what syncs have said of a member under any key that it ever had, of the named fields only that they differ.
update sync_entries
set changes = changes || personal.blanks
from (
    select e.log_id, e.id, jsonb_object_agg(field, '{"before": null, "after": null}'::jsonb) as blanks
    from (
        select distinct connection_id, external_id
        from member_events
        where member_id = $1 and connection_id is not null
    ) as key
    join sync_log l on l.connection_id = key.connection_id
    join sync_entries e on e.log_id = l.id and e.external_id = key.external_id
    cross join unnest($2::text[]) as field
    where e.changes ? field
    group by e.log_id, e.id
) as personal
where (sync_entries.log_id, sync_entries.id) = (personal.log_id, personal.id);

-- name: erase_staged
-- What syncs that run no more have left behind of a member's keys; a running one empties its own at its end.
delete from sync_staging s
using (
    select distinct external_id from member_events where member_id = $1 and external_id is not null
) as key
where s.external_id = key.external_id and not exists (select from jobs j where j.id = s.job_id and j.state = 'running');

-- name: erase_pages
-- Of whose keys they are told among a thousand others, and a hash is of what was said: what runs no more needs none of them.
delete from sync_pages p where not exists (select from jobs j where j.id = p.job_id and j.state = 'running');

-- name: erase_differences
-- The same of the differences that they had found.
delete from sync_delta d
using (
    select distinct external_id from member_events where member_id = $1 and external_id is not null
) as key
where d.external_id = key.external_id and not exists (select from jobs j where j.id = d.job_id and j.state = 'running');
