-- Members of whom time makes something else.

-- name: list_ended_memberships
-- Active or suspended as published, and past their end at $3: all of them are due. In the order of their ends, after ($1, $2).
select
    m.id, m.version, m.expires_at, m.company_id, c.time_zone, m.pending_plan, m.pending_start, m.pending_expires_at,
    (n.id is null or n.status = 'archived' or not n.mapped_fields &&
        case when m.pending_expires_at is null then array['plan'] else array['plan', 'expires_at'] end) as plan_is_ours
from members m
join companies c on c.id = m.company_id
left join connections n on n.id = m.connection_id
where m.state in ('active', 'suspended') and m.expires_at < $3::timestamptz and (m.expires_at, m.id) > ($1::timestamptz, $2::uuid)
order by m.expires_at, m.id
limit $4;

-- name: list_ended_graces
-- In grace as published, and past the days of their company, or of the operator ($5), at $3; company by company, after ($6, $1, $2).
-- An hour is taken as one: days of a time zone may have 23.
select
    m.id, m.version, m.expires_at, m.company_id, c.time_zone, m.pending_plan, m.pending_start, m.pending_expires_at,
    (n.id is null or n.status = 'archived' or not n.mapped_fields &&
        case when m.pending_expires_at is null then array['plan'] else array['plan', 'expires_at'] end) as plan_is_ours
from companies c
cross join lateral (
    select *
    from members
    where company_id = c.id and state = 'grace'
        and expires_at < $3::timestamptz - make_interval(hours => 24 * coalesce(c.grace_days, $5::integer))
        and (company_id, expires_at, id) > ($6::uuid, $1::timestamptz, $2::uuid)
    order by company_id, expires_at, id
    limit $4
) m
left join connections n on n.id = m.connection_id
where c.id >= $6::uuid
order by c.id, m.expires_at, m.id
limit $4;

-- name: list_pending_plans
-- What begins by $3, the latest day of any time zone; in the order of the days, after ($1, $2). Who has left keeps the plan for a return.
select m.id, m.version, m.company_id, c.time_zone, m.pending_plan, m.pending_start, m.pending_expires_at
from members m
join companies c on c.id = m.company_id
where m.pending_plan is not null and m.upstream_state <> 'removed'
    and m.pending_start <= $3::date and (m.pending_start, m.id) > ($1::date, $2::uuid)
order by m.pending_start, m.id
limit $4;

