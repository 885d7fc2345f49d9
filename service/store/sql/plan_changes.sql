-- The history of plans, and the lock under which a member's is changed.

-- name: try_lock_plan_changes
-- Whose plan nobody else changes at this moment; until the transaction ends. Materialised: each lock is tried once.
with tried as materialized (
    select id, pg_try_advisory_xact_lock(hashtextextended('cron:plan-change:' || id, 0)) as locked
    from unnest($1::uuid[]) as one (id)
)
select id from tried where locked;

-- name: list_applied_plan_changes
-- Who had a plan begin on that day already.
select p.member_id
from unnest($1::uuid[], $2::date[]) as due (member_id, day)
join plan_changes p on p.member_id = due.member_id and p.effective_date_day = due.day and p.change_type = 'APPLIED';

-- name: insert_plan_changes
insert into plan_changes (member_id, company_id, change_type, plan, effective_date_day, expires_at, actor, correlation_id)
select member_id, (select company_id from members where id = member_id), change_type, plan, day, expires_at, actor, correlation_id
from unnest($1::uuid[], $2::text[], $3::text[], $4::date[], $5::timestamptz[], $6::text[], $7::text[])
    as new (member_id, change_type, plan, day, expires_at, actor, correlation_id);

-- name: find_open_plan_change
-- What was planned last, where nothing has come of it yet.
select plan, effective_date_day, expires_at
from (select * from plan_changes where member_id = $1 order by id desc limit 1) newest
where change_type = 'SCHEDULED';

-- name: list_plan_changes
-- A member's history, the newest first, below the last one of the page before.
select id, change_type, plan, effective_date_day, expires_at, actor, correlation_id, occurred_at
from plan_changes
where company_id = $1 and member_id = $2 and ($3::bigint is null or id < $3)
order by id desc
limit $4;
