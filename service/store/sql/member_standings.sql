-- name: list_standings
-- What members are as of now, without who they are; those that are gone, and tombstones, are missing.
select
    m.id, m.company_id, m.connection_id, m.external_id, m.plan, m.starts_at, m.expires_at, m.version,
    standing(m.upstream_state, m.hold, m.expires_at, make_interval(days => coalesce(c.grace_days, $2::integer)), now()) as state,
    now() as read_at
from members m
join companies c on c.id = m.company_id
where m.id = any ($1::uuid[]) and m.version > 0;
