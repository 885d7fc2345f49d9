-- migrate:up

-- Who refers to which of the operator's secrets at the moment.
create view secret_holders (company_id, reference, kind, name) as
select w.company_id, w.reference, 'webhook', c.name
from webhook_secrets w
join connections c on c.id = w.connection_id and c.status <> 'archived'
where w.not_after is null or w.not_after > now()
union
select company_id, secret_reference, 'directory', name
from connections
where secret_reference is not null and status <> 'archived'
union
select s.company_id, w.reference, 'subscriber', s.name
from subscriber_secrets w
join subscribers s on s.id = w.subscriber_id and s.state <> 'removed'
where w.not_after is null or w.not_after > now()
union
select k.id, provider.value ->> 'secretReference', 'scan provider', provider.key
from companies k
cross join lateral jsonb_each(k.scan_providers) provider
where provider.value ->> 'secretReference' is not null;


-- migrate:down
-- Forward only: mend with a new migration.
