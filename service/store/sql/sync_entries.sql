-- name: insert_entries
-- What a run says of single records.
insert into sync_entries (log_id, what, external_id, member_id, reason, changes)
select $1, what, external_id, member_id, reason, changes
from unnest($2::text[], $3::text[], $4::uuid[], $5::text[], $6::jsonb[]) as e (what, external_id, member_id, reason, changes);

-- name: list_removals
-- Whom a quarantined run would remove, and what it could not process.
insert into sync_entries (log_id, what, external_id, member_id, reason)
select $1, case when what in ('left', 'absent') then 'removed' else what end, external_id, member_id, reason
from sync_delta
where job_id = $2 and ((what in ('left', 'absent') and was_live) or what in ('invalid', 'conflicting'))
order by place;

-- name: discard_entries
-- Of an attempt that did not come to its end.
delete from sync_entries where log_id = $1;

-- name: list_entries
-- In the order in which they were found, of all kinds or one, from above the last one of the page before.
select id, what, external_id, member_id, reason, changes
from sync_entries
where log_id = $1 and id > $2 and ($3::text is null or what = $3)
order by id
limit $4;
