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
-- What was granted, to all companies or to one, with who holds it in this moment.
select k.name as company, g.reference, g.granted_at, g.revoked_at,
    coalesce(array_agg(distinct h.said order by h.said) filter (where h.said is not null), '{}'::text[]) as holders
from secret_grants g
join companies k on k.id = g.company_id
left join (
    select company_id, reference, case when kind in ('webhook', 'directory') then 'connection' else kind end || ' ' || name as said
    from secret_holders
) h on h.company_id = g.company_id and h.reference = g.reference
where $1::uuid is null or g.company_id = $1
group by k.name, g.company_id, g.reference
order by k.name, g.reference;

-- name: list_held_secrets
-- What is asked of others with a secret, those who hold several one after the other.
select k.name as company, h.kind, h.name as holder, h.reference, g.company_id is not null and g.revoked_at is null as granted
from secret_holders h
join companies k on k.id = h.company_id
left join secret_grants g on g.company_id = h.company_id and g.reference = h.reference
where h.kind <> 'webhook'
order by k.name, h.kind, h.name, h.reference;

-- name: is_granted
-- Whether a company may refer to this secret.
select exists (select from secret_grants where company_id = $1 and reference = $2 and revoked_at is null);
