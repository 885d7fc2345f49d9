-- name: offer_secret
-- A company may refer to this secret of the operator's; no row where that was taken back.
insert into secret_grants as g (company_id, reference)
values ($1, $2)
on conflict (company_id, reference) do update set granted_at = g.granted_at where g.revoked_at is null
returning granted_at;

-- name: grant_secret
-- A company may refer to this secret of the operator's, also where that was taken back before.
insert into secret_grants as g (company_id, reference)
values ($1, $2)
on conflict (company_id, reference) do update set
    granted_at = case when g.revoked_at is null then g.granted_at else now() end,
    revoked_at = null;

-- name: revoke_secret
-- A company may not refer to this secret any more; no row where it might not before.
update secret_grants
set revoked_at = now()
where company_id = $1 and reference = $2 and revoked_at is null
returning revoked_at;

-- name: list_secret_grants
-- What was granted, to all companies or to one, with the connections that hold it in this moment.
select k.name as company, g.reference, g.granted_at, g.revoked_at,
    coalesce(array_agg(c.name order by c.name) filter (where c.id is not null), '{}'::text[]) as connections
from secret_grants g
join companies k on k.id = g.company_id
left join (
    select connection_id, company_id, reference from webhook_secrets where not_after is null or not_after > now()
    union
    select id, company_id, secret_reference from connections where secret_reference is not null
) s on s.company_id = g.company_id and s.reference = g.reference
left join connections c on c.id = s.connection_id and c.status <> 'archived'
where $1::uuid is null or g.company_id = $1
group by k.name, g.company_id, g.reference
order by k.name, g.reference;

-- name: is_granted
-- Whether a company may refer to this secret.
select exists (select from secret_grants where company_id = $1 and reference = $2 and revoked_at is null);
