-- The columns of a member stand in the order of service.domain.member.Member.

-- name: lock_members
-- Lock, in the order of their ids, every row that a key, a national id or an id names. The ids are found first, as one value: a row
-- that had to be waited for is compared with it again, as it is by then, and must not be lost because its key has changed. `is true`
-- keeps the index of a company's members, with all of them in it, from being taken for the one of national ids.
select
    id, company_id, connection_id, external_id, national_id, name, email, phone, metadata, upstream_state, hold, held_at,
    plan, pending_plan, pending_start, pending_expires_at, starts_at, expires_at, removed_at, state, source_version, source_hash,
    upstream_applied_at, version
from members
where id = any (array(
    select m.id
    from unnest($1::uuid[], $2::text[]) as key (connection_id, external_id)
    join members m using (connection_id, external_id)
    union all
    select m.id
    from unnest($3::uuid[], $4::text[]) as person (company_id, national_id)
    join members m on m.national_id = person.national_id and (m.company_id = person.company_id) is true
    union all
    select unnest($5::uuid[])
))
order by id
for update;

-- name: lock_free_members
-- Those of the members whom nobody else changes at this moment.
select
    id, company_id, connection_id, external_id, national_id, name, email, phone, metadata, upstream_state, hold, held_at,
    plan, pending_plan, pending_start, pending_expires_at, starts_at, expires_at, removed_at, state, source_version, source_hash,
    upstream_applied_at, version
from members
where id = any ($1::uuid[])
order by id
for update skip locked;

-- name: insert_members
-- New members and tombstones.
insert into members (
    id, company_id, connection_id, external_id, national_id, name, email, phone, metadata, upstream_state, hold, held_at,
    plan, pending_plan, pending_start, pending_expires_at, starts_at, expires_at, removed_at, state, source_version, source_hash,
    upstream_applied_at, version
)
select *
from unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::jsonb[], $10::text[],
    $11::text[], $12::timestamptz[], $13::text[], $14::text[], $15::date[], $16::timestamptz[], $17::timestamptz[],
    $18::timestamptz[], $19::timestamptz[], $20::text[], $21::bigint[], $22::bytea[], $23::timestamptz[], $24::bigint[]
);

-- name: update_members
-- Whole rows over the version that was read under the lock ($25); answers how many were still at it.
with changed as (
    update members m
    set
        connection_id = u.connection_id, external_id = u.external_id, national_id = u.national_id, name = u.name,
        email = u.email, phone = u.phone, metadata = u.metadata, upstream_state = u.upstream_state, hold = u.hold,
        held_at = u.held_at, plan = u.plan, pending_plan = u.pending_plan, pending_start = u.pending_start,
        pending_expires_at = u.pending_expires_at, starts_at = u.starts_at, expires_at = u.expires_at,
        removed_at = u.removed_at, state = u.state, source_version = u.source_version, source_hash = u.source_hash,
        upstream_applied_at = u.upstream_applied_at, version = u.version
    from unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::jsonb[], $10::text[],
        $11::text[], $12::timestamptz[], $13::text[], $14::text[], $15::date[], $16::timestamptz[], $17::timestamptz[],
        $18::timestamptz[], $19::timestamptz[], $20::text[], $21::bigint[], $22::bytea[], $23::timestamptz[], $24::bigint[],
        $25::bigint[]
    ) as u (
        id, company_id, connection_id, external_id, national_id, name, email, phone, metadata, upstream_state, hold, held_at,
        plan, pending_plan, pending_start, pending_expires_at, starts_at, expires_at, removed_at, state, source_version,
        source_hash, upstream_applied_at, version, read_version
    )
    where m.id = u.id and m.version = u.read_version
    returning m.id
)
select count(*) from changed;

-- name: update_standings
-- Of whom time has made something else, and nothing else has changed: over the version that was read under the lock ($4); answers how many
-- were still at it.
with changed as (
    update members m set state = u.state, version = u.version
    from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[]) as u (id, state, version, read_version)
    where m.id = u.id and m.version = u.read_version
    returning m.id
)
select count(*) from changed;

-- name: delete_tombstones
-- Tombstones whose place a member took.
delete from members where id = any($1::uuid[]) and version = 0;

-- name: read_members
-- The rows that keys and national ids name, as they are, for what is only looked at.
select
    id, company_id, connection_id, external_id, national_id, name, email, phone, metadata, upstream_state, hold, held_at,
    plan, pending_plan, pending_start, pending_expires_at, starts_at, expires_at, removed_at, state, source_version, source_hash,
    upstream_applied_at, version
from members
where id = any (array(
    select m.id
    from unnest($1::uuid[], $2::text[]) as key (connection_id, external_id)
    join members m using (connection_id, external_id)
    union all
    select m.id
    from unnest($3::uuid[], $4::text[]) as person (company_id, national_id)
    join members m on m.national_id = person.national_id and (m.company_id = person.company_id) is true
    union all
    select unnest($5::uuid[])
));

-- name: count_live_members
-- Of one connection.
select count(*) from members where connection_id = $1 and upstream_state <> 'removed';
