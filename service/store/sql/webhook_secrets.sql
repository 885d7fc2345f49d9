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
