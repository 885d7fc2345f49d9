-- name: discard_delta
-- Of this job, and whatever attempts left behind that ended without a word.
delete from sync_delta d
where d.job_id = $1 or not exists (select from jobs j where j.id = d.job_id and j.state = 'running');

-- name: analyze_delta
analyze sync_delta;

-- name: compare_kept
-- Where the records that are kept of the first reading and the connection's members differ. $3: what is remembered of a removal.
insert into sync_delta (
    job_id, place, what, external_id, member_id, was_live, source_hash, content, national_id, version, updated_at, reason, independent
)
select
    $1, row_number() over (order by array_position(array['updated', 'touched', 'reactivated', 'added', 'left'], what), external_id),
    what, external_id, member_id, was_live, source_hash, content, national_id, version, updated_at, reason,
    -- Who is new and takes another's place is found later.
    what = 'added' or (what in ('updated', 'touched') and keeps_national_id)
from (
    select
        case
            when s.reason is not null then case when s.contradicts then 'conflicting' else 'invalid' end
            when s.source_hash = $3 then 'left'
            when m.id is null or m.version = 0 then 'added'
            when m.upstream_state = 'removed' then 'reactivated'
            when s.source_hash is distinct from m.source_hash or m.is_of_another_meaning then 'updated'
            else 'touched'
        end as what,
        s.external_id, m.id as member_id, coalesce(m.upstream_state <> 'removed', false) as was_live,
        s.source_hash, s.content, s.national_id, s.version, s.updated_at, s.reason,
        s.national_id is not distinct from m.national_id as keeps_national_id
    from (select * from sync_staging where job_id = $1) s
    left join (
        select id, external_id, national_id, source_hash, source_version, upstream_state, version,
            -- What is remembered is of the records as they were understood then.
            coalesce(upstream_applied_at < (select meaning_changed_at from connections where id = $2), false) as is_of_another_meaning
        from members
        where connection_id = $2
    ) m on m.external_id = s.external_id
    where case
        when s.reason is not null then true
        when m.id is null then s.source_hash <> $3::bytea or s.version is not null
        else s.source_hash is distinct from m.source_hash
            -- A key that was given up, and is told of again as it was.
            or (m.version = 0 and s.source_hash <> $3::bytea)
            or m.is_of_another_meaning
            or coalesce(s.version > m.source_version, false)
    end
) d;

-- name: digest_members
-- Whom a snapshot that began at $2 could call absent: how many, and a digest of their keys with the seed $3.
select count(*) as members, coalesce(bit_xor(hashtextextended(m.external_id, $3)), 0) as digest
from members m
where m.connection_id = $1 and m.upstream_state <> 'removed' and coalesce(m.upstream_applied_at < $2::timestamptz, true);

-- name: find_absent
-- Behind all other differences, the live members of whom the first reading has nothing. $3: when the snapshot began, since when the
-- stream knows better who is there.
insert into sync_delta (job_id, place, what, external_id, member_id, was_live, version)
select
    $1, (select coalesce(max(place), 0) from sync_delta where job_id = $1) + row_number() over (order by m.external_id),
    'absent', m.external_id, m.id, true, m.source_version
from members m
where m.connection_id = $2 and m.upstream_state <> 'removed' and coalesce(m.upstream_applied_at < $3::timestamptz, true)
    and not exists (
        select
        from (select string_to_table(p.keys, E'\x1f') as key from sync_pages p where p.job_id = $1 and p.reading = 1) k
        where k.key = m.external_id
    );

-- name: pair_by_national_id
-- New keys of people who are known by another key of the same connection.
update sync_delta d
set replaces = m.external_id, replaces_live = m.upstream_state <> 'removed', independent = false
from members m
where d.job_id = $1 and d.what = 'added' and d.national_id is not null
    and m.national_id = d.national_id and m.company_id = $2 and m.connection_id = $3 and m.external_id <> d.external_id
    and coalesce(m.upstream_applied_at < $4::timestamptz, true);

-- name: unpair_those_present
-- A key that a reading has is not given up.
update sync_delta d
set replaces = null, replaces_live = false, independent = true
from (select string_to_table(p.keys, E'\x1f') as key from sync_pages p where p.job_id = $1 and p.reading = $2) k
where d.job_id = $1 and d.replaces is not null and k.key = d.replaces;

-- name: drop_those_present
-- Who is in another reading is not absent.
delete from sync_delta d
using (select string_to_table(p.keys, E'\x1f') as key from sync_pages p where p.job_id = $1 and p.reading = $2) k
where d.job_id = $1 and d.what = 'absent' and k.key = d.external_id;

-- name: drop_those_replaced
-- Who has a new key has not left.
delete from sync_delta d
using sync_delta r
where d.job_id = $1 and d.what = 'absent' and r.job_id = $1 and r.replaces = d.external_id;

-- name: drop_absent
-- Nobody is absent by this snapshot, and no key is given up.
with unpaired as (
    update sync_delta set replaces = null, replaces_live = false, independent = true where job_id = $1 and replaces is not null
)
delete from sync_delta where job_id = $1 and what = 'absent';

-- name: count_delta
-- How many of each difference, how many of them are live here, and how many take the place of another key.
select what, count(*) as records, count(*) filter (where was_live) as live, count(replaces) as replacing
from sync_delta
where job_id = $1
group by what;

-- name: count_unlisted_removals
-- Who would be removed and is not on the list of that run.
select count(*)
from sync_delta d
where d.job_id = $1 and d.what in ('left', 'absent') and d.was_live
    and not exists (
        select from sync_entries e where e.log_id = $2 and e.what = 'removed' and e.external_id = d.external_id
    );

-- name: read_delta
-- The next differences in their order.
select place, what, external_id, member_id, source_hash, content, version, updated_at, replaces, replaces_live, reason, independent
from sync_delta
where job_id = $1 and place > $2
order by place
limit $3;
