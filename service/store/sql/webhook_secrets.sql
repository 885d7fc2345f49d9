-- name: insert_webhook_secret
-- One more secret of a connection, without an end.
insert into webhook_secrets (connection_id, company_id, reference)
values ($1, $2, $3)
on conflict (connection_id, reference) do update set not_after = null;

-- name: retire_webhook_secrets
-- All secrets of a connection but one end after an interval, unless they end before.
update webhook_secrets
set not_after = least(not_after, now() + $3::interval)
where connection_id = $1 and reference <> $2
returning reference;

-- name: list_webhook_secrets
-- The secrets of every connection that takes webhooks, newest first, and how long each holds by this clock; one without any has a row without.
select k.name as company, c.id as connection_id, c.name as connection, w.scheme, w.settings, s.reference, s.not_after - now() as holds_for,
    g.revoked_at is not null as revoked
from webhooks w
join connections c on c.id = w.connection_id and c.status <> 'archived'
join companies k on k.id = c.company_id
left join webhook_secrets s on s.connection_id = w.connection_id
left join secret_grants g on g.company_id = s.company_id and g.reference = s.reference
order by k.name, c.name, s.created_at desc, s.reference;
