-- What is kept for a time and then goes, a little at once.

-- name: count_inbox_pages
-- Of 8 kB each.
select pg_relation_size('inbox') / current_setting('block_size')::bigint;

-- name: discard_messages
-- What was taken in so long ago, of the pages from $1 up to $2: a table that is written from end to end needs no index for it, which
-- every message would pay for.
with gone as (
    delete from inbox
    where ctid >= format('(%s,0)', $1::bigint)::tid and ctid < format('(%s,0)', $2::bigint)::tid
        and received_at < statement_timestamp() - $3::interval
    returning 1
)
select count(*) from gone;

-- name: list_outdated_syncs
-- Syncs that ended so long ago and have entries left; an open quarantine is not over. The logs are found by hopping along the entries.
with recursive logs as (
    (select log_id from sync_entries order by log_id limit 1)
    union all
    select (select e.log_id from sync_entries e where e.log_id > l.log_id order by e.log_id limit 1)
    from logs l
    where l.log_id is not null
)
select s.id
from logs l
join sync_log s on s.id = l.log_id
where s.finished_at < statement_timestamp() - $1::interval and (s.status <> 'quarantined' or s.review is not null or s.dry_run)
limit $2;

-- name: discard_sync_entries
-- Up to $2 of one sync.
with gone as (
    delete from sync_entries
    where log_id = $1 and id = any (array(select id from sync_entries where log_id = $1 order by id limit $2))
    returning 1
)
select count(*) from gone;

-- name: discard_ended_deliveries
-- Up to $2 that ended so long ago, with their attempts.
with gone as (
    delete from deliveries
    where id = any (array(
        select id from deliveries where finished_at < statement_timestamp() - $1::interval order by finished_at limit $2
    ))
    returning 1
)
select count(*) from gone;

-- name: discard_abandoned_deliveries
-- Up to $2 of subscribers that were removed, or that nobody has called for so long; where order mattered, of which member.
delete from deliveries
where id = any (array(
    select d.id
    from subscribers s
    cross join lateral (
        select d.id from deliveries d
        where d.subscriber_id = s.id
            and (s.state = 'removed' or (d.finished_at is null and d.created_at < statement_timestamp() - $1::interval))
        order by d.id
        limit $2
    ) d
    where s.state in ('removed', 'paused', 'disabled')
    limit $2
))
returning subscriber_id, member_id, replay_id, in_order;

-- name: discard_ended_findings
-- Up to $2 that were resolved so long ago.
with gone as (
    delete from findings
    where id = any (array(
        select id from findings
        where state = 'resolved' and resolved_at < statement_timestamp() - $1::interval
        order by resolved_at
        limit $2
    ))
    returning 1
)
select count(*) from gone;

-- name: discard_old_scans
-- Up to $2 that began so long ago, with their parts; of each company the newest stays, which alone may be running.
with gone as (
    delete from scans
    where id = any (array(
        select s.id from scans s
        where s.started_at < statement_timestamp() - $1::interval
            and exists (select from scans n where n.company_id = s.company_id and n.number > s.number)
        order by s.started_at
        limit $2
    ))
    returning 1
)
select count(*) from gone;

-- name: list_unscanned_companies
-- That have no providers any more, and findings that are still open: no scan of theirs will resolve these.
select k.id
from companies k
where k.scan_providers = '{}' and exists (select from findings f where f.company_id = k.id and f.state = 'open')
limit $1;
