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
-- What was granted, to all companies or to one, with the connections and subscribers that hold it in this moment.
select k.name as company, g.reference, g.granted_at, g.revoked_at,
    coalesce(array_agg(h.name order by h.name) filter (where h.name is not null), '{}'::text[]) as holders
from secret_grants g
join companies k on k.id = g.company_id
left join (
    select w.company_id, w.reference, 'connection ' || c.name as name
    from webhook_secrets w
    join connections c on c.id = w.connection_id and c.status <> 'archived'
    where w.not_after is null or w.not_after > now()
    union
    select company_id, secret_reference, 'connection ' || name from connections
    where secret_reference is not null and status <> 'archived'
    union
    select s.company_id, w.reference, 'subscriber ' || s.name
    from subscriber_secrets w
    join subscribers s on s.id = w.subscriber_id and s.state <> 'removed'
    where w.not_after is null or w.not_after > now()
) h on h.company_id = g.company_id and h.reference = g.reference
where $1::uuid is null or g.company_id = $1
group by k.name, g.company_id, g.reference
order by k.name, g.reference;

-- name: is_granted
-- Whether a company may refer to this secret.
select exists (select from secret_grants where company_id = $1 and reference = $2 and revoked_at is null);
