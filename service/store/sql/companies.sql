-- name: insert_company
-- A company; its name is unique.
insert into companies (name, time_zone, grace_days)
values ($1, $2, $3)
returning id, name, time_zone, grace_days, scan_providers,
    (select s.interval_ms from schedules s where s.kind = 'scan' and s.subject_id = companies.id and s.enabled) as scan_interval_ms,
    created_at;

-- name: offer_company
-- A company of that name, in UTC and with the operator's days of grace; nothing where there is one.
insert into companies (name, time_zone)
values ($1, 'UTC')
on conflict (name) do nothing;

-- name: list_companies
-- All companies by name.
select id, name, time_zone, grace_days, scan_providers,
    (select s.interval_ms from schedules s where s.kind = 'scan' and s.subject_id = companies.id and s.enabled) as scan_interval_ms,
    created_at
from companies
order by name;

-- name: find_company
-- A company by its id or its name.
select id, name, time_zone, grace_days, scan_providers,
    (select s.interval_ms from schedules s where s.kind = 'scan' and s.subject_id = companies.id and s.enabled) as scan_interval_ms,
    created_at
from companies
where id::text = $1::text or name = $1::text;

-- name: page_companies
-- By id, which stays, from above the last one of the page before.
select id, name, time_zone, grace_days, scan_providers,
    (select s.interval_ms from schedules s where s.kind = 'scan' and s.subject_id = companies.id and s.enabled) as scan_interval_ms,
    created_at
from companies
where $1::uuid is null or id > $1
order by id
limit $2;

-- name: lock_company
-- A company that is about to be changed.
select id, name, time_zone, grace_days, scan_providers,
    (select s.interval_ms from schedules s where s.kind = 'scan' and s.subject_id = companies.id and s.enabled) as scan_interval_ms,
    created_at
from companies
where id = $1
for no key update;

-- name: change_company
update companies
set name = $2, time_zone = $3, grace_days = $4
where id = $1
returning id, name, time_zone, grace_days, scan_providers,
    (select s.interval_ms from schedules s where s.kind = 'scan' and s.subject_id = companies.id and s.enabled) as scan_interval_ms,
    created_at;

-- name: grace_of_companies
-- The days of grace that hold in the named companies.
select id, coalesce(grace_days, $2::integer) as grace_days
from companies
where id = any($1::uuid[]);

-- name: set_scan_providers
update companies set scan_providers = $2 where id = $1;
