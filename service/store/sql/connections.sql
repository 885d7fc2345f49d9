-- name: rules_of_connections
-- What the named connections fixed, and their companies' days of grace.
select c.id, c.company_id, coalesce(k.grace_days, $2::integer) as grace_days, c.version_kind, c.mapped_fields, c.status
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
