-- Members beside the newest row of their audit.

-- name: count_keys
select count(*) from members;

-- name: sample_members
-- Who stands at these places, from 0, in the order of the ids. Looked up in a hash of the places: a join sorts all members once more.
select id
from (select id, row_number() over (order by id) - 1 as place from members) m
where place = any ($1::bigint[]);

-- name: page_members
select id from members where id > $1 order by id limit $2;

-- name: compare_with_audit
-- Of members that are still there: in which of the audited fields row and audit differ. A tombstone has no audit. Both are read as of
-- one moment, so that a change which commits meanwhile is in both or in neither.
select m.id,
    case
        when e.version is null and m.version = 0 then '{}'::text[]
        when e.version is null then array['audit']
        else array_remove(array[
            case when m.version <> e.version then 'version' end,
            case when m.state <> e.new_state then 'state' end,
            case when m.plan is distinct from e.plan then 'plan' end,
            case when m.starts_at is distinct from e.starts_at then 'startsAt' end,
            case when m.expires_at is distinct from e.expires_at then 'expiresAt' end
        ], null)
    end as differing
from members m
left join lateral (
    select version, new_state, plan, starts_at, expires_at
    from member_events
    where member_id = m.id
    order by version desc
    limit 1
) e on true
where m.id = any ($1::uuid[]);

-- name: list_audited
-- What the audit of members ends in, and what it last said of their upstream state; those without any are missing.
select m.id, m.version as read_version, e.version, e.new_state as state, e.plan, e.starts_at, e.expires_at, u.upstream_state
from members m
cross join lateral (
    select version, new_state, plan, starts_at, expires_at
    from member_events
    where member_id = m.id
    order by version desc
    limit 1
) e
left join lateral (
    select after ->> 'upstreamState' as upstream_state
    from member_events
    where member_id = m.id and after ? 'upstreamState'
    order by version desc
    limit 1
) u on true
where m.id = any ($1::uuid[]);
