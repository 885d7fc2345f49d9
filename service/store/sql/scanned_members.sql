-- Live members as scans look at them. Tombstones are no members.

-- name: count_live_members
select count(*) from members where company_id = $1 and upstream_state <> 'removed';

-- name: list_scanned_members
-- Compared and ordered by all columns of the index, as in member_views.sql: members are not spread evenly over their ids.
select id, email, national_id
from members
where (company_id, id) > ($1, coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')) and company_id <= $1 and upstream_state <> 'removed'
order by company_id, id
limit $3;

-- name: list_members_outside
-- Who has an address in none of these domains.
select id, email, national_id
from members
where (company_id, id) > ($1, coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')) and company_id <= $1 and upstream_state <> 'removed'
    and btrim(email) <> '' and not lower(btrim(substring(email from '[^@]*$'))) = any ($3::text[])
order by company_id, id
limit $4;

-- name: list_members_at
-- Who has which of these addresses, without case and blanks around it. Each is looked up for itself: in a list of a thousand the planner
-- would rather read the whole company. Blanks behind it are next to it in the index; of those who have some before it there are few.
with asked as (
    select address, lower(btrim(address)) as plain from unnest($2::text[]) as a (address)
)
select m.id, m.email, m.national_id, a.address
from asked a
cross join lateral (
    select id, email, national_id
    from members
    where company_id = $1 and lower(email) ~>=~ a.plain and lower(email) ~<~ (a.plain || '!') and email is not null
        and lower(btrim(email)) = a.plain and upstream_state <> 'removed'
    offset 0
) m
where a.plain <> ''
union all
select m.id, m.email, m.national_id, a.address
from (
    select id, email, national_id, lower(btrim(email)) as plain
    from members
    where company_id = $1 and lower(email) ~>=~ ' ' and lower(email) ~<~ '!' and email is not null and upstream_state <> 'removed'
    offset 0
) m
join asked a using (plain)
where a.plain <> '';

-- name: stream_members_sharing_email
-- Neighbours in the order of what they share: one pass over a sorted company, whatever is shared by how many.
select id, sharing, other
from (
    select id, count(*) over (partition by shared) as sharing, coalesce(lag(id) over w, lead(id) over w) as other
    from (
        select id, lower(btrim(email)) as shared
        from members
        where company_id = $1 and upstream_state <> 'removed' and btrim(email) <> ''
    ) m
    window w as (partition by shared order by id)
) m
where sharing > 1;

-- name: stream_members_sharing_national_id
-- The table itself has each only once as it is stored, without hyphens and blanks: here only letters and digits count, and no case.
select id, sharing, other
from (
    select id, count(*) over (partition by shared) as sharing, coalesce(lag(id) over w, lead(id) over w) as other
    from (
        select id, upper(regexp_replace(national_id, '[^[:alnum:]]', '', 'g')) as shared
        from members
        where company_id = $1 and upstream_state <> 'removed' and national_id is not null
    ) m
    where shared <> ''
    window w as (partition by shared order by id)
) m
where sharing > 1;
