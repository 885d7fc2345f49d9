-- name: insert_subscriber_secret
-- One more secret that signs, without an end.
insert into subscriber_secrets (subscriber_id, company_id, reference)
values ($1, $2, $3)
on conflict (subscriber_id, reference) do update set not_after = null, created_at = clock_timestamp();

-- name: retire_subscriber_secrets
-- All secrets but one end after an interval, unless they end before.
update subscriber_secrets
set not_after = least(not_after, clock_timestamp() + $3::interval)
where subscriber_id = $1 and reference <> $2
returning reference;

-- name: discard_retired_secrets
-- Those of a subscriber that sign no more.
delete from subscriber_secrets where subscriber_id = $1 and not_after <= clock_timestamp();

-- name: list_signing_secrets
-- What these subscribers are signed with now, the newest first, and whether the company may still refer to it.
select c.subscriber_id, c.reference, g.revoked_at is not null as revoked
from subscriber_secrets c
join secret_grants g on g.company_id = c.company_id and g.reference = c.reference
where c.subscriber_id = any ($1::uuid[]) and (c.not_after is null or c.not_after > clock_timestamp())
order by c.subscriber_id, c.created_at desc, c.reference;
