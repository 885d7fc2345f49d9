-- name: insert_admin_event
insert into admin_events (company_id, actor, action, subject_kind, subject_id, changes, correlation_id)
values ($1, $2, $3, $4, $5, $6, $7);

-- name: list_admin_events
-- Of a company, the newest first, below the last one of the page before.
select id, occurred_at, actor, action, subject_kind, subject_id, changes, correlation_id
from admin_events
where company_id = $1 and ($2::bigint is null or id < $2) and ($3::uuid is null or subject_id = $3)
order by id desc
limit $4;
