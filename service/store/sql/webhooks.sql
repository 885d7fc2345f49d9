-- name: insert_webhook
-- Let a connection receive webhooks.
insert into webhooks (connection_id, company_id, scheme, settings, mapping, rate_per_second)
values ($1, $2, $3, $4, $5, $6);

-- name: find_webhook
-- How a connection's webhooks are signed and mapped, with its secrets that may still hold: neither ended nor revoked. Archived ones have none.
select w.connection_id, w.company_id, w.scheme, w.settings, w.mapping, w.rate_per_second,
    coalesce(s.references, '{}'::text[]) as secret_references,
    coalesce(s.not_afters, '{}'::timestamptz[]) as not_afters
from webhooks w
join connections c on c.id = w.connection_id
left join lateral (
    select array_agg(s.reference order by s.created_at desc, s.reference) as references,
        array_agg(s.not_after order by s.created_at desc, s.reference) as not_afters
    from webhook_secrets s
    join secret_grants g on g.company_id = s.company_id and g.reference = s.reference
    where s.connection_id = w.connection_id and (s.not_after is null or s.not_after > now()) and g.revoked_at is null
) s on true
where w.connection_id = $1 and c.status <> 'archived';
