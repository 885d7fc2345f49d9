-- name: insert_outbox
-- Messages to publish, in their order, and the word to the relays that there is work once this commits.
with inserted as (
    insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at)
    select order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at
    from unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::text[], $9::timestamptz[]
    ) with ordinality as m (
        order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at, position
    )
    order by position
)
select pg_notify('rollcall_outbox', '');

-- name: prefer_indexes
-- A drained outbox is vacuumed to no pages at all: a plan made then reads the table through, and is kept while the table fills again.
select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true);

-- name: discover_keys
-- The keys of up to $3 rows above each bucket's watermark. It finds work, it decides nothing: the claim reads each key's lowest row itself.
select found.bucket, found.order_key, min(found.id) as first_id, max(found.id) as last_id, count(*) as row_count
from unnest($1::smallint[], $2::bigint[]) as owned (bucket, watermark)
cross join lateral (
    select o.bucket, o.order_key, o.id
    from outbox o
    where o.bucket = owned.bucket and o.id > owned.watermark
    order by o.id
    limit $3
) as found
group by found.bucket, found.order_key
order by first_id;

-- name: sweep_keys
-- The keys at or below the watermarks that could be published now: rows that committed late, and refused ones whose wait is over.
select found.bucket, found.order_key, min(found.id) as first_id, max(found.id) as last_id, count(*) as row_count
from unnest($1::smallint[], $2::bigint[]) as owned (bucket, watermark)
cross join lateral (
    select o.bucket, o.order_key, o.id, o.next_attempt_at
    from outbox o
    where o.bucket = owned.bucket and o.id <= owned.watermark
    order by o.id
) as found
group by found.bucket, found.order_key
having count(*) filter (where found.next_attempt_at > clock_timestamp()) = 0
order by first_id
limit $3;

-- name: claim_messages
-- Each key's lowest row, wherever it lies, if it may be sent now and the lease on its bucket is this holder's. The floor is the last row of
-- the key that this relay has sent: nothing of the key commits below it, and starting there passes over the dead.
select
    o.id, o.order_key, o.attempts, o.exchange, o.routing_key, o.type, o.message_id, o.correlation_id, o.headers, o.body,
    o.occurred_at
from unnest($2::uuid[], $3::smallint[], $4::bigint[], $5::bigint[]) as key (order_key, bucket, fence, floor)
join leases l
    on l.resource = 'relay/' || key.bucket
    and l.holder = $1 and l.fence = key.fence and l.expires_at > clock_timestamp()
cross join lateral (
    select * from outbox where outbox.order_key = key.order_key and outbox.id > key.floor order by outbox.id limit 1
) as o
where o.next_attempt_at is null or o.next_attempt_at <= clock_timestamp();

-- name: delete_published
-- Not fenced: the broker has confirmed these very rows, so whoever owns the bucket by now must not send them again.
delete from outbox where id = any ($1::bigint[]);

-- name: postpone_refused
-- Guarded by the attempts that were read: of two relays that were refused the same row, one counts.
update outbox o
set attempts = o.attempts + 1, next_attempt_at = clock_timestamp() + refused.delay, last_error = refused.error
from unnest($1::bigint[], $2::integer[], $3::interval[], $4::text[]) as refused (id, attempts, delay, error)
where o.id = refused.id and o.attempts = refused.attempts;

-- name: wake_relays
select pg_notify('rollcall_outbox', $1);
