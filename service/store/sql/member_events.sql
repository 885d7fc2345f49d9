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

-- name: list_events_since
-- Past versions by the order of their writing, which for one member is that of its versions.
select
    id, member_id, version, company_id, connection_id, external_id, occurred_at, reason_code, previous_state, new_state,
    changed_fields, plan, starts_at, expires_at, correlation_id, traceparent
from member_events
where id > $1 and occurred_at >= $2 and occurred_at < $3 and ($4::uuid is null or company_id = $4)
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
