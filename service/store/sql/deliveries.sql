-- name: insert_deliveries
-- Those of them that are new; where order matters they wait until they are let go.
insert into deliveries (subscriber_id, member_id, version, replay_id, in_order, state, due_at, correlation_id, traceparent)
select
    subscriber_id, member_id, version, $5, in_order, case when in_order then 'waiting' else 'pending' end,
    case when not in_order then clock_timestamp() end, correlation_id, traceparent
from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::boolean[], $6::text[], $7::text[])
    as d (subscriber_id, member_id, version, in_order, correlation_id, traceparent)
order by subscriber_id, member_id, version
on conflict do nothing
returning subscriber_id, member_id, in_order;

-- name: insert_test
-- A delivery about nobody, due just before all that is: somebody waits for it, and nothing is overdue for longer than it was.
insert into deliveries (subscriber_id, replay_id, in_order, state, due_at, correlation_id, traceparent)
values (
    $1, $2, false, 'pending',
    least(
        clock_timestamp(),
        (
            select d.due_at - interval '1 millisecond'
            from deliveries d
            where d.subscriber_id = $1 and d.state = 'pending'
            order by d.due_at
            limit 1
        )
    ),
    $3, $4
)
returning id;

-- name: let_go
-- Of each member, live or of one replay, the lowest version that waits, unless one is under way: what goes out of its order, as its
-- subscriber did not want order when it was written down, is in nobody's way.
update deliveries d set state = 'pending', due_at = clock_timestamp()
from (select distinct * from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as m (subscriber_id, member_id, replay_id)) m
cross join lateral (
    select w.id from deliveries w
    where w.subscriber_id = m.subscriber_id and w.member_id = m.member_id and w.state = 'waiting'
        and w.replay_id is not distinct from m.replay_id
    order by w.version
    limit 1
) first
where d.id = first.id
    and not exists (
        select from deliveries p
        where p.subscriber_id = m.subscriber_id and p.member_id = m.member_id and p.state = 'pending'
            and p.in_order and p.replay_id is not distinct from m.replay_id
    )
returning d.subscriber_id;

-- name: list_due_subscribers
-- Who has a delivery that is due, and whether the last attempts failed: one look into the index for each.
select s.id, s.failing_since is not null as failing
from subscribers s
where s.state = 'active' and (s.wait_until is null or s.wait_until <= clock_timestamp())
    and exists (select from deliveries d where d.subscriber_id = s.id and d.state = 'pending' and d.due_at <= clock_timestamp());

-- name: claim_deliveries
-- Of each subscriber as many as it has slots, the longest due first; until the lease ends they are nobody else's.
-- The array is found once: looked for again beside each row that is claimed, there would be others.
update deliveries d set
    due_at = clock_timestamp() + $3::interval,
    claimed_at = clock_timestamp(),
    fence = fence + 1
where d.id = any (array(
    select longest.id
    from unnest($1::uuid[], $2::integer[]) as free (subscriber_id, slots)
    cross join lateral (
        select due.id
        from deliveries due
        where due.subscriber_id = free.subscriber_id and due.state = 'pending' and due.due_at <= clock_timestamp()
        order by due.due_at
        limit free.slots
        for update skip locked
    ) longest
))
returning d.id, d.subscriber_id, d.member_id, d.version, d.replay_id, d.in_order, d.fence, d.attempts, d.attempts_of_round, d.correlation_id,
    d.traceparent, d.created_at;

-- name: list_targets
-- Where these subscribers are.
select id, company_id, url from subscribers where id = any ($1::uuid[]);

-- name: settle_deliveries
-- What became of attempts; nothing where somebody else has claimed it since, or where this was written already. No wait: it is over.
update deliveries d set
    state = a.state,
    due_at = case when a.state = 'pending' then clock_timestamp() + a.wait end,
    claimed_at = null,
    attempts = d.attempts + 1,
    attempts_of_round = case when a.anew then 0 else d.attempts_of_round + 1 end,
    last_status = a.status,
    last_error = a.error,
    finished_at = case when a.state <> 'pending' then clock_timestamp() end
from unnest($1::bigint[], $2::bigint[], $3::text[], $4::interval[], $5::smallint[], $6::text[], $7::boolean[])
    as a (id, fence, state, wait, status, error, anew)
where d.id = a.id and d.fence = a.fence and d.claimed_at is not null
returning d.id, d.attempts, d.subscriber_id, d.member_id, d.in_order;

-- name: give_back_deliveries
-- Claimed and not tried: anybody may have them at once.
update deliveries d set due_at = clock_timestamp(), claimed_at = null
from unnest($1::bigint[], $2::bigint[]) as c (id, fence)
where d.id = c.id and d.fence = c.fence and d.state = 'pending';

-- name: insert_attempts
insert into delivery_attempts (delivery_id, number, started_at, duration, outcome, status, error_class, error, response)
select * from unnest(
    $1::bigint[], $2::integer[], $3::timestamptz[], $4::interval[], $5::text[], $6::smallint[], $7::text[], $8::text[], $9::text[]
);

-- name: resend_delivery
-- One that ended, once more from the start; where order matters it waits for those that are under way.
update deliveries set
    state = case when in_order then 'waiting' else 'pending' end,
    due_at = case when not in_order then clock_timestamp() end,
    attempts_of_round = 0,
    finished_at = null
where id = $1 and state in ('delivered', 'exhausted')
returning member_id, replay_id, in_order;

-- name: show_delivery
-- One of a company's.
select d.id, d.subscriber_id, d.member_id, d.version, d.replay_id, d.state, d.due_at, d.claimed_at, d.attempts, d.last_status,
    d.last_error, d.correlation_id, d.created_at, d.finished_at
from deliveries d
join subscribers s on s.id = d.subscriber_id
where d.id = $1 and d.subscriber_id = $2 and s.company_id = $3 and s.state <> 'removed';

-- name: list_deliveries
-- Of a subscriber, the newest first, below the last one of the page before.
select d.id, d.subscriber_id, d.member_id, d.version, d.replay_id, d.state, d.due_at, d.claimed_at, d.attempts, d.last_status,
    d.last_error, d.correlation_id, d.created_at, d.finished_at
from deliveries d
where d.subscriber_id = $1 and ($2::text is null or d.state = $2) and ($3::bigint is null or d.id < $3)
order by d.id desc
limit $4;

-- name: list_attempts
-- In their order.
select number, started_at, duration, outcome, status, error_class, error, response
from delivery_attempts
where delivery_id = $1
order by number;

-- name: measure_deliveries
-- What has not ended, counted up to $1; the longest overdue of those who do not fail; and how many fail.
select
    least(
        $1,
        (select count(*) from (select from deliveries where state = 'pending' limit $1) d)
            + (select count(*) from (select from deliveries where state = 'waiting' limit $1) d)
    ) as waiting,
    (
        select statement_timestamp() - min(first.due_at)
        from subscribers s
        cross join lateral (
            select d.due_at from deliveries d where d.subscriber_id = s.id and d.state = 'pending' order by d.due_at limit 1
        ) first
        where s.state = 'active' and s.failing_since is null and (s.wait_until is null or s.wait_until <= statement_timestamp())
            and first.due_at <= statement_timestamp()
    ) as overdue,
    (select count(*) from subscribers where state = 'active' and failing_since is not null) as failing;
