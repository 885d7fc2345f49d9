-- Leases: expires_at is compared with the database's clock only, and every change of holder raises the fence.

-- name: insert_bucket_leases
insert into leases (resource) select unnest($1::text[]) on conflict do nothing;

-- name: announce_relay
-- A relay that lives; its own row is nobody else's to write, so the fence stays.
insert into leases (resource, holder, expires_at)
values ('relay-instance/' || $1::uuid, $1::uuid, clock_timestamp() + $2::interval)
on conflict (resource) do update set expires_at = excluded.expires_at
returning xmax = 0 as is_new;

-- name: delete_expired_relays
-- Rows that another relay is deleting at the same moment are skipped: two that delete in different orders would deadlock.
delete from leases where resource in (
    select resource from leases
    where resource like 'relay-instance/%' and expires_at <= clock_timestamp()
    for update skip locked
);

-- name: select_live_relays
select holder from leases where resource like 'relay-instance/%' and expires_at > clock_timestamp();

-- name: renew_buckets
-- A lease that lapsed but that nobody took is still its holder's: fence and holder say so.
update leases l set expires_at = clock_timestamp() + $4::interval
from unnest($2::text[], $3::bigint[]) as held (resource, fence)
where l.resource = held.resource and l.holder = $1 and l.fence = held.fence
returning l.resource, l.fence;

-- name: find_lapsed_buckets
-- Buckets that were not given back: their holder let its lease run out.
select resource from leases where resource = any ($1::text[]) and holder is not null and expires_at <= clock_timestamp();

-- name: take_buckets
update leases set holder = $1, fence = fence + 1, expires_at = clock_timestamp() + $4::interval
where resource in (
    select resource from leases
    where resource = any ($2::text[]) and expires_at <= clock_timestamp()
    order by random() limit $3
    for update skip locked
)
returning resource, fence;

-- name: release_buckets
update leases l set holder = null, expires_at = '-infinity'
from unnest($2::text[], $3::bigint[]) as held (resource, fence)
where l.resource = held.resource and l.holder = $1 and l.fence = held.fence
returning l.resource;

-- name: withdraw_relay
delete from leases where resource = 'relay-instance/' || $1::uuid;

-- name: read_ownership
-- Relays that live, and buckets that somebody owns.
select
    count(*) filter (where resource like 'relay-instance/%') as relays,
    count(*) filter (where resource like 'relay/%') as owned
from leases
where expires_at > clock_timestamp();

-- name: take_lease
-- A holder that comes back after its end takes its own lease over; nothing where it is another's.
insert into leases as l (resource, holder, fence, expires_at)
values ($1, $2::uuid, 1, clock_timestamp() + $3::interval)
on conflict (resource) do update set holder = excluded.holder, fence = l.fence + 1, expires_at = excluded.expires_at
    where l.expires_at <= clock_timestamp() or l.holder = excluded.holder
returning fence;

-- name: renew_lease
update leases set expires_at = clock_timestamp() + $4::interval where resource = $1 and holder = $2 and fence = $3
returning true;

-- name: release_lease
update leases set holder = null, expires_at = '-infinity' where resource = $1 and holder = $2 and fence = $3;
