-- name: begin_sweep
-- With the first subscriber; what happened before is nobody's.
insert into notification_sweep (swept_to)
select coalesce(max(id), 0) from member_events
on conflict (only_one) do nothing;

-- name: lock_sweep
-- Nothing where another instance sweeps, or nobody ever had a subscriber.
select swept_to from notification_sweep for update skip locked;

-- name: find_sweep_end
-- The last of the next $2 versions before the first that may still be on its way: what happened within $3.
select coalesce(max(id) filter (where id < coalesce(young, id + 1)), $1::bigint)
from (
    select id, min(id) filter (where occurred_at > statement_timestamp() - $3::interval) over () as young
    from (select id, occurred_at from member_events where id > $1 order by id limit $2) next
) e;

-- name: list_missed_events
-- Versions after $1 and up to $2 that a subscriber wants and knows nothing of; a first import's had no event.
select
    e.id, e.member_id, e.version, e.company_id, e.connection_id, e.external_id, e.occurred_at, e.reason_code, e.previous_state,
    e.new_state, e.changed_fields, e.plan, e.starts_at, e.expires_at, e.correlation_id, e.traceparent
from member_events e
where e.id > $1 and e.id <= $2
    and exists (
        select from subscribers s
        where s.company_id = e.company_id and s.state in ('active', 'paused') and s.begins_at <= e.occurred_at
            and (s.reason_codes = '{}' or e.reason_code = any (s.reason_codes))
            and (s.new_states = '{}' or e.new_state = any (s.new_states))
            and (s.changed_fields = '{}' or e.changed_fields && s.changed_fields)
            and not exists (
                select from deliveries d
                where d.subscriber_id = s.id and d.member_id = e.member_id and d.version = e.version and d.replay_id is null
            )
    )
    and not (e.version = 1 and e.connection_id is not null and exists (
        select from sync_log l where l.correlation_id = e.correlation_id and l.baseline and not l.dry_run
    ))
order by e.id;

-- name: end_sweep
update notification_sweep set swept_to = $1;
