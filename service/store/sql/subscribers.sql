-- name: insert_subscriber
insert into subscribers (
    id, company_id, name, url, reason_codes, new_states, changed_fields, in_order, state_changed_by, created_by
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9);

-- name: count_subscribers
-- Of a company, the removed left out.
select count(*) from subscribers where company_id = $1 and state <> 'removed';

-- name: find_subscriber_named
select id from subscribers where company_id = $1 and name = $2 and state <> 'removed';

-- name: lock_subscriber
-- Nobody changes it until the transaction ends.
select true from subscribers where id = $1 and company_id = $2 and state <> 'removed' for no key update;

-- name: show_subscriber
-- One that was not removed, with the secrets that sign, and how many deliveries wait, counted up to a thousand.
select s.id, s.company_id, s.name, s.url, s.reason_codes, s.new_states, s.changed_fields, s.in_order, s.state, s.disabled_because,
    s.state_changed_at, s.state_changed_by, s.failing_since, s.wait_until, s.created_at, s.created_by,
    coalesce(k.secret_references, '{}') as secret_references, coalesce(k.retired, '{}') as retired_references,
    least(
        1000,
        (select count(*) from (select from deliveries d where d.subscriber_id = s.id and d.state = 'pending' limit 1000) d)
            + (select count(*) from (select from deliveries d where d.subscriber_id = s.id and d.state = 'waiting' limit 1000) d)
    )::integer as undelivered
from subscribers s
left join lateral (
    select array_agg(c.reference order by c.created_at desc, c.reference) as secret_references,
        array_agg(c.reference order by c.created_at desc, c.reference) filter (where c.not_after is not null) as retired
    from subscriber_secrets c
    where c.subscriber_id = s.id and (c.not_after is null or c.not_after > clock_timestamp())
) k on true
where s.id = $1 and ($2::uuid is null or s.company_id = $2) and s.state <> 'removed';

-- name: list_subscribers
-- A company's by name, from above the last one of the page before.
select s.id, s.company_id, s.name, s.url, s.reason_codes, s.new_states, s.changed_fields, s.in_order, s.state, s.disabled_because,
    s.state_changed_at, s.state_changed_by, s.failing_since, s.wait_until, s.created_at, s.created_by,
    coalesce(k.secret_references, '{}') as secret_references, coalesce(k.retired, '{}') as retired_references,
    least(
        1000,
        (select count(*) from (select from deliveries d where d.subscriber_id = s.id and d.state = 'pending' limit 1000) d)
            + (select count(*) from (select from deliveries d where d.subscriber_id = s.id and d.state = 'waiting' limit 1000) d)
    )::integer as undelivered
from subscribers s
left join lateral (
    select array_agg(c.reference order by c.created_at desc, c.reference) as secret_references,
        array_agg(c.reference order by c.created_at desc, c.reference) filter (where c.not_after is not null) as retired
    from subscriber_secrets c
    where c.subscriber_id = s.id and (c.not_after is null or c.not_after > clock_timestamp())
) k on true
where s.company_id = $1 and s.state <> 'removed' and ($2::text is null or s.name > $2)
order by s.name
limit $3;

-- name: change_subscriber
-- A locked one; another address begins anew, whatever the one before did.
update subscribers set
    name = $2,
    url = $3,
    reason_codes = $4,
    new_states = $5,
    changed_fields = $6,
    in_order = $7,
    failing_since = case when url = $3 then failing_since end,
    wait_until = case when url = $3 then wait_until end
where id = $1;

-- name: switch_subscriber
-- A locked one, to another state; what was so of its attempts is over.
update subscribers set
    state = $2,
    disabled_because = $3,
    state_changed_at = clock_timestamp(),
    state_changed_by = $4,
    failing_since = null,
    wait_until = null
where id = $1;

-- name: list_listening_companies
-- Companies that have, or had, somebody to be told of their events.
select distinct company_id from subscribers;

-- name: list_listeners
-- Who is told of events of these companies now: also the paused, later.
select id, company_id, reason_codes, new_states, changed_fields, in_order, begins_at
from subscribers
where company_id = any ($1::uuid[]) and state in ('active', 'paused');

-- name: lock_ordered
-- Where order matters, nobody adds or ends deliveries beside us until the transaction ends. By id, so that two never wait for each other.
select id from subscribers
where in_order and state <> 'removed' and (id = any ($1::uuid[]) or company_id = any ($2::uuid[]))
order by id
for no key update;

-- name: lock_lines
-- The same of those that have deliveries in order, whether they want order of what comes or not.
select id from subscribers
where id = any ($1::uuid[])
order by id
for no key update;

-- name: note_success
-- Of whoever failed before; whoever did not costs no write. That it asked to be left alone is no less so.
update subscribers set failing_since = null, wait_until = case when wait_until > clock_timestamp() then wait_until end
where id = any ($1::uuid[]) and (failing_since is not null or wait_until <= clock_timestamp());

-- name: note_failures
-- Since when they fail, the first of them all, null: they do not; and until when they want not to be called.
update subscribers s set
    failing_since = least(s.failing_since, f.since),
    wait_until = greatest(s.wait_until, clock_timestamp() + f.wait)
from unnest($1::uuid[], $2::timestamptz[], $3::interval[]) as f (id, since, wait)
where s.id = f.id and s.state = 'active' and (s.failing_since is null or f.wait is not null);

-- name: disable_subscribers
-- Those that said that they are gone, and those that failed for longer than that.
update subscribers set
    state = 'disabled',
    disabled_because = case when id = any ($2::uuid[]) then 'gone' else 'failing' end,
    state_changed_at = clock_timestamp(),
    state_changed_by = 'notifier'
where id = any ($1::uuid[]) and state = 'active'
    and (id = any ($2::uuid[]) or failing_since < clock_timestamp() - $3::interval)
returning id, company_id, disabled_because;
