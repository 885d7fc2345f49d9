-- name: discard_pages
-- Of this job, and whatever attempts left behind that ended without a word.
delete from sync_pages p
where p.job_id = $1 or not exists (select from jobs j where j.id = p.job_id and j.state = 'running');

-- name: insert_page
-- Of keys that are only looked for, and of pages whose records are kept whatever they say.
insert into sync_pages (job_id, reading, records, keys, hashes, versions)
values ($1, $2, cardinality(string_to_array($3, E'\x1f')), $3, $4, $5);

-- name: compare_page
-- Note a page of the first reading, and answer the places of the records that may say something else than what is remembered, from 1;
-- and which members it names of those who could be absent ($7: since when not): how many, and a digest of their keys.
-- $6: what is remembered of a removal, $8: the seed of the digest.
with page as (
    insert into sync_pages (job_id, reading, records, keys, hashes, versions)
    values ($1, 1, cardinality(string_to_array($3, E'\x1f')), $3, $4, $5)
)
select
    array_agg(r.place::integer order by r.place) filter (where case
        when m.id is null then r.source_hash <> $6::bytea or r.version is not null
        else r.source_hash is distinct from m.source_hash
            -- A key that was given up, and is told of again as it was.
            or (m.version = 0 and r.source_hash <> $6::bytea)
            -- What is remembered is of the records as they were understood then.
            or coalesce(m.upstream_applied_at < (select meaning_changed_at from connections where id = $2), false)
            or coalesce(r.version > m.source_version, false)
    end) as places,
    count(*) filter (where m.upstream_state <> 'removed' and coalesce(m.upstream_applied_at < $7::timestamptz, true)) as members,
    coalesce(
        bit_xor(hashtextextended(r.key, $8))
        filter (where m.upstream_state <> 'removed' and coalesce(m.upstream_applied_at < $7::timestamptz, true)),
        0
    ) as digest
from (
    select key, version, place, substr($4, 16 * (place::integer - 1) + 1, 16) as source_hash
    from unnest(string_to_array($3, E'\x1f'), $5::bigint[]) with ordinality as k (key, version, place)
) r
left join members m on m.connection_id = $2 and m.external_id = r.key;

-- name: count_pages
-- How many records with a key the pages of a reading hold, and how many are kept of the first one.
select
    coalesce((select sum(records) from sync_pages where job_id = $1 and reading = $2), 0)::bigint as keyed,
    (select count(*) from sync_staging where job_id = $1) as kept;

-- name: count_keys
-- The distinct keys of a reading.
select count(distinct k.key)
from (select string_to_table(p.keys, E'\x1f') as key from sync_pages p where p.job_id = $1 and p.reading = $2) k;

-- name: mark_contradictions
-- Keys of which the snapshot tells more than one thing, the versions being no help: nothing of that is taken.
with copies as (
    select k.key, k.version, substr(p.hashes, 16 * (k.place::integer - 1) + 1, 16) as source_hash
    from sync_pages p
    cross join unnest(string_to_array(p.keys, E'\x1f'), p.versions) with ordinality as k (key, version, place)
    where p.job_id = $1 and p.reading = 1
        and k.key in (
            select i.key
            from sync_pages o
            cross join string_to_table(o.keys, E'\x1f') as i (key)
            where o.job_id = $1 and o.reading = 1
            group by i.key
            having count(*) > 1
        )
), contradicted as (
    select key
    from (select key, version, source_hash, max(version) over (partition by key) as newest from copies) t
    where version is not distinct from newest
    group by key
    having count(distinct source_hash) > 1
), dropped as (
    delete from sync_staging s using contradicted c where s.job_id = $1 and s.external_id = c.key
)
insert into sync_staging (job_id, external_id, reason, contradicts)
select $1, key, $2, true from contradicted;

-- name: delete_repetitions
-- One record stays of each key, the newest, and none where that one says what is known.
with copies as (
    select k.key, k.version, substr(p.hashes, 16 * (k.place::integer - 1) + 1, 16) as source_hash
    from sync_pages p
    cross join unnest(string_to_array(p.keys, E'\x1f'), p.versions) with ordinality as k (key, version, place)
    where p.job_id = $1 and p.reading = 1
        and k.key in (
            select i.key
            from sync_pages o
            cross join string_to_table(o.keys, E'\x1f') as i (key)
            where o.job_id = $1 and o.reading = 1
            group by i.key
            having count(*) > 1
        )
), newest as (
    select distinct on (key) key, version, source_hash from copies order by key, version desc nulls last
)
delete from sync_staging s
using (
    select t.ctid, t.is_newest, row_number() over (partition by t.external_id, t.is_newest order by t.ctid) as place
    from (
        select a.ctid, a.external_id,
            a.version is not distinct from n.version and coalesce(a.source_hash, '\x00000000000000000000000000000000') = n.source_hash as is_newest
        from sync_staging a
        join newest n on n.key = a.external_id
        where a.job_id = $1 and not a.contradicts
    ) t
) d
where s.ctid = d.ctid and (not d.is_newest or d.place > 1);
