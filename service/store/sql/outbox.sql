-- name: insert_outbox
-- Messages to publish, in their order, and the word to the relays that there is work once this commits: which rows, where they are few
-- enough for a payload of less than 8,000 bytes, else nothing but the word.
with inserted as (
    insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at)
    select order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at
    from unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::text[], $9::timestamptz[]
    ) with ordinality as m (
        order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at, position
    )
    order by position
    returning bucket, order_key, id
)
select pg_notify('rollcall_outbox', case when count(*) <= 100 then string_agg(concat_ws(' ', bucket, order_key, id), ',') else '' end)
from inserted;

-- name: discover_keys
-- The keys of up to $3 fresh rows above each bucket's watermark, and whether a refused row stands before them. It finds work, it decides
-- nothing: the claim reads each key's lowest row itself. Not `exists`: its plan may read all refused rows.
select found.*, refused.id is not null as is_blocked
from (
    select o.bucket, o.order_key, min(o.id) as first_id, max(o.id) as last_id, count(*) as row_count
    from unnest($1::smallint[], $2::bigint[]) as owned (bucket, watermark)
    cross join lateral (
        select bucket, order_key, id
        from outbox
        where bucket = owned.bucket and id > owned.watermark and next_attempt_at is null
        order by id
        limit $3
    ) as o
    group by o.bucket, o.order_key
) as found
left join lateral (
    select id from outbox where order_key = found.order_key and next_attempt_at is not null limit 1
) as refused on true
order by found.first_id;

-- name: sweep_keys
-- The keys of up to $4 fresh rows of each span of ids, and whether a refused row stands before them.
select found.*, refused.id is not null as is_blocked
from (
    select o.bucket, o.order_key, min(o.id) as first_id, max(o.id) as last_id, count(*) as row_count
    from unnest($1::smallint[], $2::bigint[], $3::bigint[]) as span (bucket, after_id, last_id)
    cross join lateral (
        select bucket, order_key, id
        from outbox
        where bucket = span.bucket and id > span.after_id and id <= span.last_id and next_attempt_at is null
        order by id
        limit $4
    ) as o
    group by o.bucket, o.order_key
) as found
left join lateral (
    select id from outbox where order_key = found.order_key and next_attempt_at is not null limit 1
) as refused on true
order by found.first_id;

-- name: find_due_keys
-- Up to $3 keys whose refused row may be offered again, of each bucket and level up to $2. A level is the number of refusals, from the fourth
-- on one and the same: the levels take turns, so that what was refused once does not wait behind all that was refused for days.
select due.bucket, due.order_key, due.id as row_id, last.id as last_id
from (
    select o.bucket, o.order_key, o.id, o.next_attempt_at,
        row_number() over (partition by owned.bucket, level order by o.next_attempt_at) as turn
    from unnest($1::smallint[]) as owned (bucket)
    cross join generate_series(1, 4) as level
    cross join lateral (
        select bucket, order_key, id, next_attempt_at
        from outbox
        where bucket = owned.bucket and least(attempts, 4) = level and next_attempt_at <= statement_timestamp()
        order by next_attempt_at
        limit $2
    ) as o
    order by turn, o.next_attempt_at
    limit $3
) as due
cross join lateral (
    select id from outbox where order_key = due.order_key order by id desc limit 1
) as last;

-- name: claim_messages
-- Each key's lowest row, wherever it lies, if it may be sent now and the lease on its bucket is this holder's. The floor is the last row of
-- the key that this relay has sent: nothing of the key commits below it, and starting there passes over the dead. A row that was refused is
-- taken only for a retry, which keeps its share.
select
    o.id, o.order_key, o.attempts, o.exchange, o.routing_key, o.type, o.message_id, o.correlation_id, o.headers, o.body,
    o.occurred_at
from unnest($2::uuid[], $3::smallint[], $4::bigint[], $5::bigint[], $6::boolean[])
    as key (order_key, bucket, fence, floor, is_retry)
join leases l
    on l.resource = 'relay/' || key.bucket
    and l.holder = $1 and l.fence = key.fence and l.expires_at > clock_timestamp()
cross join lateral (
    select * from outbox where outbox.order_key = key.order_key and outbox.id > key.floor order by outbox.id limit 1
) as o
where o.next_attempt_at is null or (key.is_retry and o.next_attempt_at <= clock_timestamp());

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

-- name: read_backlog
-- How much waits, for how long, and how many keys are blocked by a row that the broker refused.
select
    count(*) as messages,
    clock_timestamp() - min(created_at) as oldest,
    count(distinct order_key) filter (where attempts > 0) as blocked_keys
from outbox;

-- name: measure_backlog
-- The same for who looks often: up to $1 rows and keys are counted, and the lowest id stands for the oldest, so that a million rows cost no
-- more than $1 do.
select
    (select count(*) from (select id from outbox order by id limit $1) as counted) as messages,
    (select clock_timestamp() - created_at from outbox order by id limit 1) as oldest,
    (
        select count(*)
        from (select distinct order_key from outbox where next_attempt_at is not null order by order_key limit $1) as counted
    ) as blocked_keys;

-- name: list_refusals
-- Why rows were refused, the most frequent reason first.
select last_error as error, count(distinct order_key) as blocked_keys
from outbox
where attempts > 0
group by last_error
order by blocked_keys desc, error
limit $1;
