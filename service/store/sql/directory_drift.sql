-- A directory's snapshot beside the connection's members, in the tables of a sync.

-- name: add_those_equal
-- Behind the differences of a job, every record that says what was last told of its member: the row may have been altered since.
insert into sync_delta (
    job_id, place, what, external_id, member_id, was_live, source_hash, content, national_id, version, updated_at
)
select
    $1, (select coalesce(max(place), 0) from sync_delta where job_id = $1) + row_number() over (order by s.external_id),
    'touched', s.external_id, m.id, m.upstream_state <> 'removed', s.source_hash, s.content, s.national_id, s.version, s.updated_at
from (select * from sync_staging where job_id = $1 and reason is null) s
join members m on m.connection_id = $2 and m.external_id = s.external_id
left join sync_delta d on d.job_id = $1 and d.external_id = s.external_id
where d.job_id is null and s.content is not null and s.source_hash <> $3;

-- name: count_records
select coalesce(max(place), 0) from sync_delta where job_id = $1;

-- name: read_records_at
-- The records at these places.
select place, what, external_id, member_id, source_hash, content, version, updated_at, replaces, replaces_live, reason, independent
from sync_delta
where job_id = $1 and place = any ($2::bigint[])
order by place;
