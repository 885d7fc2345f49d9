-- Members as they are read: `state` is what the facts make of them now. Tombstones are no members. Lists are in the order of ids, from
-- above the last one ($2) of the page before, at most $4 long; $5 to $8 are filters, null where none is wanted.

-- name: find_member
-- One member of a company, and when its source was last known to agree: what it told last, or the last complete sync that had nothing
-- to say against it.
select
    m.id, m.connection_id, m.external_id, m.national_id, m.name, m.email, m.phone, m.metadata, m.upstream_state, m.hold, m.held_at, m.plan,
    m.pending_plan, m.pending_start, m.pending_expires_at, m.starts_at, m.expires_at, m.removed_at, m.version, m.created_at,
    standing(m.upstream_state, m.hold, m.expires_at, make_interval(days => coalesce(c.grace_days, $3::integer)), now()) as state, now() as read_at,
    greatest(m.upstream_applied_at, v.snapshot_began_at) as verified_at
from members m
join companies c on c.id = m.company_id
left join lateral (
    select l.snapshot_began_at
    from sync_log l
    where l.connection_id = m.connection_id and l.mode = 'full' and not l.dry_run and l.status in ('success', 'partial')
        -- A snapshot that lacked somebody for no good reason says nothing of anybody.
        and not l.details ? 'withheld'
        and not exists (
            select from sync_entries e
            where e.log_id = l.id and e.external_id = m.external_id and e.what in ('invalid', 'conflicting')
        )
    order by l.started_at desc, l.id desc
    limit 1
) v on true
where m.id = $1 and m.company_id = $2 and m.version > 0;

-- name: list_members
-- Compared and ordered by all columns of its index, with no equality that would make one of them redundant: the planner takes members to
-- be spread evenly over their ids, and would read by the primary key through all that joined before those that are asked for.
with page as (
    select m.id
    from members m
    where (m.company_id, m.id) > ($1, $2) and m.company_id <= $1
        and m.version > 0
        and ($5::text is null or m.plan = $5)
        and ($6::uuid is null or m.connection_id = $6)
        and ($7::text is null or m.national_id = $7)
        and ($8::text is null or standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) = $8)
    order by m.company_id, m.id
    limit $4
)
select
    m.id, m.connection_id, m.external_id, m.national_id, m.name, m.email, m.phone, m.metadata, m.upstream_state, m.hold, m.held_at, m.plan,
    m.pending_plan, m.pending_start, m.pending_expires_at, m.starts_at, m.expires_at, m.removed_at, m.version, m.created_at,
    standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) as state, now() as read_at
from page
join members m using (id)
order by id;

-- name: list_members_of_connection
with page as (
    select m.id
    from members m
    where (m.company_id, m.connection_id, m.id) > ($1, $6, $2) and (m.company_id, m.connection_id) <= ($1, $6)
        and m.version > 0
        and ($5::text is null or m.plan = $5)
        and ($6::uuid is null or m.connection_id = $6)
        and ($7::text is null or m.national_id = $7)
        and ($8::text is null or standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) = $8)
    order by m.company_id, m.connection_id, m.id
    limit $4
)
select
    m.id, m.connection_id, m.external_id, m.national_id, m.name, m.email, m.phone, m.metadata, m.upstream_state, m.hold, m.held_at, m.plan,
    m.pending_plan, m.pending_start, m.pending_expires_at, m.starts_at, m.expires_at, m.removed_at, m.version, m.created_at,
    standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) as state, now() as read_at
from page
join members m using (id)
order by id;

-- name: list_members_by_plan
with page as (
    select m.id
    from members m
    where (m.company_id, m.plan, m.id) > ($1, $5, $2) and (m.company_id, m.plan) <= ($1, $5)
        and m.version > 0
        and ($5::text is null or m.plan = $5)
        and ($6::uuid is null or m.connection_id = $6)
        and ($7::text is null or m.national_id = $7)
        and ($8::text is null or standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) = $8)
    order by m.company_id, m.plan, m.id
    limit $4
)
select
    m.id, m.connection_id, m.external_id, m.national_id, m.name, m.email, m.phone, m.metadata, m.upstream_state, m.hold, m.held_at, m.plan,
    m.pending_plan, m.pending_start, m.pending_expires_at, m.starts_at, m.expires_at, m.removed_at, m.version, m.created_at,
    standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) as state, now() as read_at
from page
join members m using (id)
order by id;

-- name: list_members_by_national_id
with page as (
    select m.id
    from members m
    where m.national_id = $7 and (m.company_id = $1) is true and m.id > $2
        and m.version > 0
        and ($5::text is null or m.plan = $5)
        and ($6::uuid is null or m.connection_id = $6)
        and ($7::text is null or m.national_id = $7)
        and ($8::text is null or standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) = $8)
    order by m.id
    limit $4
)
select
    m.id, m.connection_id, m.external_id, m.national_id, m.name, m.email, m.phone, m.metadata, m.upstream_state, m.hold, m.held_at, m.plan,
    m.pending_plan, m.pending_start, m.pending_expires_at, m.starts_at, m.expires_at, m.removed_at, m.version, m.created_at,
    standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) as state, now() as read_at
from page
join members m using (id)
order by id;

-- name: list_members_by_state
-- By the stored state, of which time may have made something else by now, and besides who has come to this one by time alone: each of
-- these ways has an index, is short while reconciliation runs, and what standing() says decides. Days of grace are compared one too wide,
-- since those of an interval depend on the session's time zone.
with stored as (
    select m.id
    from members m
    where (m.company_id, m.state, m.id) > ($1, $8, $2) and (m.company_id, m.state) <= ($1, $8)
        and m.version > 0
        and ($5::text is null or m.plan = $5)
        and ($6::uuid is null or m.connection_id = $6)
        and ($7::text is null or m.national_id = $7)
        and standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) = $8
    order by m.company_id, m.state, m.id
    limit $4
), overdue as materialized (
    select m.id
    from members m
    where $8 in ('grace', 'expired') and m.state in ('active', 'suspended') and m.expires_at < now()
        and (m.company_id = $1) is true and m.id > $2
        and m.version > 0
        and ($5::text is null or m.plan = $5)
        and ($6::uuid is null or m.connection_id = $6)
        and ($7::text is null or m.national_id = $7)
        and standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) = $8
), out_of_grace as materialized (
    select m.id
    from members m
    where $8 = 'expired' and m.state = 'grace' and m.expires_at < now() - $3::interval + interval '1 day'
        and m.company_id = $1 and m.id > $2
        and m.version > 0
        and ($5::text is null or m.plan = $5)
        and ($6::uuid is null or m.connection_id = $6)
        and ($7::text is null or m.national_id = $7)
        and standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) = $8
), again_in_grace as materialized (
    select m.id
    from members m
    where $8 = 'grace' and m.state = 'expired' and m.expires_at < now() and m.expires_at > now() - $3::interval - interval '1 day'
        and m.company_id = $1 and m.id > $2
        and m.version > 0
        and ($5::text is null or m.plan = $5)
        and ($6::uuid is null or m.connection_id = $6)
        and ($7::text is null or m.national_id = $7)
        and standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) = $8
), page as (
    select id from stored
    union all
    select id from overdue
    union all
    select id from out_of_grace
    union all
    select id from again_in_grace
    order by id
    limit $4
)
select
    m.id, m.connection_id, m.external_id, m.national_id, m.name, m.email, m.phone, m.metadata, m.upstream_state, m.hold, m.held_at, m.plan,
    m.pending_plan, m.pending_start, m.pending_expires_at, m.starts_at, m.expires_at, m.removed_at, m.version, m.created_at,
    standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) as state, now() as read_at
from page
join members m using (id)
order by id;

-- name: search_members
-- Those with a name in which every word of $9 begins a word, with an e-mail address like $10, and those whose key $9 is.
with found as materialized (
    select m.id
    from members m
    where m.version > 0 and (m.company_id = $1) is true and name_words(m.company_id, m.name) @@ name_search($1, $9)
    union
    select m.id
    from members m
    where m.email is not null and m.company_id = $1 and lower(m.email) like lower($10::text)
    union
    select m.id
    from connections k
    join members m on m.connection_id = k.id and m.external_id = $9
    where k.company_id = $1
), page as (
    select m.id
    from (select id from found where id > $2 order by id) as in_order
    join members m using (id)
    where (m.company_id = $1) is true
        and m.version > 0
        and ($5::text is null or m.plan = $5)
        and ($6::uuid is null or m.connection_id = $6)
        and ($7::text is null or m.national_id = $7)
        and ($8::text is null or standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) = $8)
    order by m.id
    limit $4
)
select
    m.id, m.connection_id, m.external_id, m.national_id, m.name, m.email, m.phone, m.metadata, m.upstream_state, m.hold, m.held_at, m.plan,
    m.pending_plan, m.pending_start, m.pending_expires_at, m.starts_at, m.expires_at, m.removed_at, m.version, m.created_at,
    standing(m.upstream_state, m.hold, m.expires_at, $3::interval, now()) as state, now() as read_at
from page
join members m using (id)
order by id;

-- name: grace_of_company
-- The days of grace that hold in a company.
select coalesce(grace_days, $2::integer) as grace_days from companies where id = $1;

-- name: plan_for_filters
-- Until the transaction ends, plan for the filters that are given: nobody else's plan fits, words are found by a bitmap, and what takes
-- longer than a page should is given up.
select
    set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('enable_bitmapscan', 'on', true),
    set_config('jit', 'off', true),
    set_config('statement_timeout', '10s', true);
