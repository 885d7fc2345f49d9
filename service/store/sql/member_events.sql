-- name: insert_member_events
-- The audit of new versions.
insert into member_events (
    member_id, version, company_id, connection_id, external_id, occurred_at, reason_code, previous_state, new_state,
    changed_fields, plan, starts_at, expires_at, before, after, actor, correlation_id, traceparent
)
select
    member_id, version, company_id, connection_id, external_id, occurred_at, reason_code, previous_state, new_state,
    string_to_array(changed_fields, ','), plan, starts_at, expires_at, before, after, actor, correlation_id, traceparent
from unnest(
    $1::uuid[], $2::bigint[], $3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::text[], $12::timestamptz[], $13::timestamptz[], $14::jsonb[], $15::jsonb[], $16::text[], $17::text[],
    $18::text[]
) as e (
    member_id, version, company_id, connection_id, external_id, occurred_at, reason_code, previous_state, new_state,
    changed_fields, plan, starts_at, expires_at, before, after, actor, correlation_id, traceparent
);

-- name: find_events_end
-- The $2-th version after $1, nothing where there are not so many: pages are bounded by ids, whosever they are and of when.
select id from member_events where id > $1 order by id limit 1 offset $2 - 1;

-- name: list_events_since
-- Past versions by the order of their writing, which for one member is that of its versions; after $1 and up to $6.
select
    id, member_id, version, company_id, connection_id, external_id, occurred_at, reason_code, previous_state, new_state,
    changed_fields, plan, starts_at, expires_at, correlation_id, traceparent
from member_events
where id > $1 and id <= $6 and occurred_at >= $2 and occurred_at < $3 and ($4::uuid is null or company_id = $4)
order by id
limit $5;

-- name: list_events_of_member
-- Past versions of one member in their order.
select
    id, member_id, version, company_id, connection_id, external_id, occurred_at, reason_code, previous_state, new_state,
    changed_fields, plan, starts_at, expires_at, correlation_id, traceparent
from member_events
where member_id = $1 and version > $2 and ($3::timestamptz is null or occurred_at >= $3) and ($4::uuid is null or company_id = $4)
order by version
limit $5;

-- name: list_untold_events
-- Versions before the given one of which a subscriber's deliveries know nothing, since it began; a first import's had no event.
select
    e.id, e.member_id, e.version, e.company_id, e.connection_id, e.external_id, e.occurred_at, e.reason_code,
    e.previous_state, e.new_state, e.changed_fields, e.plan, e.starts_at, e.expires_at, e.correlation_id, e.traceparent, n.subscriber_id
from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[]) as n (subscriber_id, member_id, version, since)
join member_events e on e.member_id = n.member_id and e.version < n.version
    and e.occurred_at >= greatest(n.since, statement_timestamp() - $5::interval)
where not exists (
        select from deliveries d
        where d.subscriber_id = n.subscriber_id and d.member_id = e.member_id and d.version = e.version and d.replay_id is null
    )
    and not (e.version = 1 and e.connection_id is not null and exists (
        select from sync_log l where l.correlation_id = e.correlation_id and l.baseline and not l.dry_run
    ))
order by n.subscriber_id, e.member_id, e.version;

-- name: list_events_at
-- What these versions said.
select
    e.id, e.member_id, e.version, e.company_id, e.connection_id, e.external_id, e.occurred_at, e.reason_code, e.previous_state,
    e.new_state, e.changed_fields, e.plan, e.starts_at, e.expires_at, e.correlation_id, e.traceparent
from unnest($1::uuid[], $2::bigint[]) as n (member_id, version)
join member_events e using (member_id, version);
