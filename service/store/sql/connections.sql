-- name: rules_of_connections
-- What the named connections fixed, and their companies' days of grace.
select c.id, c.company_id, coalesce(k.grace_days, $2::integer) as grace_days, c.version_kind, c.mapped_fields, c.status,
    c.meaning_changed_at
from connections c
join companies k on k.id = c.company_id
where c.id = any($1::uuid[]);

-- name: insert_connection
-- A connection of a company; the name is unique in it.
insert into connections (company_id, name, kind, version_kind, mapped_fields)
values ($1, $2, $3, $4, $5)
returning id, company_id, name, kind, version_kind, mapped_fields, status, created_at;

-- name: list_connections
-- All connections, or one company's, by name.
select id, company_id, name, kind, version_kind, mapped_fields, status, created_at
from connections
where $1::uuid is null or company_id = $1
order by company_id, name;

-- name: insert_directory
-- A connection to a directory that is asked; the name is unique in its company.
insert into connections (company_id, name, kind, version_kind, mapped_fields, directory, secret_reference)
values ($1, $2, $3, $4, $5, $6, $7)
returning id, company_id, name, kind, version_kind, mapped_fields, status, created_at;

-- name: find_directory
-- How a connection's directory is asked, where it has one, and whether its key was taken back; archived ones too.
select c.id as connection_id, c.company_id, c.name, c.kind, c.version_kind, c.mapped_fields, c.status, c.directory, c.secret_reference,
    g.revoked_at is not null as secret_revoked, c.last_full_sync_at, c.last_incremental_sync_at, c.incremental_watermark
from connections c
left join secret_grants g on g.company_id = c.company_id and g.reference = c.secret_reference
where c.id = $1 and c.directory is not null;

-- name: offer_default_directory
-- The connection `default` of a company to a directory; nothing where it has one of that name.
insert into connections (company_id, name, kind, version_kind, mapped_fields, directory, secret_reference)
values ($1, 'default', 'django', $2, $3, $4, $5)
on conflict (company_id, name) do nothing;

-- name: move_default_directory
-- Where the operator's own directory is now; no row where it was there before, or is no longer the operator's.
update connections
set directory = jsonb_set(directory, '{baseUrl}', to_jsonb($2::text))
where company_id = $1 and name = 'default' and kind = 'django' and secret_reference = 'env:DJANGO_API_KEY'
    and directory ->> 'baseUrl' is distinct from $2
returning id;

-- name: find_default_directory
-- The connection that stands for the operator's own directory.
select id
from connections
where company_id = $1 and name = 'default' and secret_reference = 'env:DJANGO_API_KEY';

-- name: find_company_of_default_directory
-- The company of the operator's own directory, whatever it is called by now; the first, where there is more than one.
select company_id
from connections
where secret_reference = 'env:DJANGO_API_KEY' and name = 'default'
order by created_at, id
limit 1;

-- name: removal_limits
-- What one sync of the connection may remove unasked.
select most_removals as most, most_removed_percent as most_percent, few_removals as few
from connections
where id = $1;

-- name: block_connection
-- Its source does not let us in: nobody asks it again until somebody acts.
update connections set status = 'blocked' where id = $1 and status = 'active';

-- name: release_connection
-- Somebody acted; no row where it was not blocked.
update connections set status = 'active' where id = $1 and status = 'blocked'
returning id;

-- name: note_full_sync
-- All members were compared; incremental ones go on from there.
update connections set last_full_sync_at = $2, incremental_watermark = $3 where id = $1;

-- name: note_incremental_sync
update connections set last_incremental_sync_at = $2, incremental_watermark = $3 where id = $1;
