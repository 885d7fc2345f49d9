-- name: page_directories
-- A company's connections by name, from above the last one of the page before; the archived only where they are asked for. $5: only
-- those whose source is asked.
select c.id, c.company_id, c.name, c.kind, c.version_kind, c.mapped_fields, c.status, c.directory, c.secret_reference,
    c.most_removals, c.most_removed_percent, c.few_removals, c.last_full_sync_at, c.last_incremental_sync_at,
    w.connection_id is not null as takes_webhooks, case when s.enabled then s.interval_ms end as sync_interval_ms,
    coalesce(s.parameters ->> 'mode', 'full') as sync_mode, c.created_at, c.archived_at
from connections c
left join webhooks w on w.connection_id = c.id
left join schedules s on s.kind = 'directory_sync' and s.subject_id = c.id
where c.company_id = $1
    and ($2::boolean or c.status <> 'archived')
    and ($3::text is null or c.name > $3)
    and (not $5::boolean or c.directory is not null)
order by c.name
limit $4;

-- name: show_directory
-- One of them.
select c.id, c.company_id, c.name, c.kind, c.version_kind, c.mapped_fields, c.status, c.directory, c.secret_reference,
    c.most_removals, c.most_removed_percent, c.few_removals, c.last_full_sync_at, c.last_incremental_sync_at,
    w.connection_id is not null as takes_webhooks, case when s.enabled then s.interval_ms end as sync_interval_ms,
    coalesce(s.parameters ->> 'mode', 'full') as sync_mode, c.created_at, c.archived_at
from connections c
left join webhooks w on w.connection_id = c.id
left join schedules s on s.kind = 'directory_sync' and s.subject_id = c.id
where c.id = $1 and c.company_id = $2;

-- name: lock_directory
-- Nobody applies to it, asks for a sync of it or changes it until the transaction ends.
select true from connections where id = $1 and company_id = $2 for update;

-- name: hold_directory
-- Nobody changes it until the transaction ends.
select true from connections where id = $1 for key share;

-- name: list_live_directories
-- What a company can sync.
select id, name from connections where company_id = $1 and directory is not null and status <> 'archived' order by name;

-- name: find_directory_named
select id from connections where company_id = $1 and name = $2;

-- name: change_directory
-- $9: its records mean something else from now on: all are compared anew, by a full sync.
update connections
set
    name = $2,
    directory = $3,
    secret_reference = $4,
    mapped_fields = $5,
    most_removals = $6,
    most_removed_percent = $7,
    few_removals = $8,
    status = case when status = 'blocked' then 'active' else status end,
    meaning_changed_at = case when $9::boolean then clock_timestamp() else meaning_changed_at end,
    last_full_sync_at = case when $9::boolean then null else last_full_sync_at end,
    incremental_watermark = case when $9::boolean then null else incremental_watermark end
where id = $1;

-- name: archive_directory
-- Nothing comes from it any more; what came stays.
update connections set status = 'archived', archived_at = clock_timestamp(), archived_by = $2 where id = $1;

-- name: has_live_members
select exists (select from members where connection_id = $1 and upstream_state <> 'removed');

-- name: list_live_members
-- Some whom the source still has, above the last one, as their removal needs them.
select id, external_id, source_version
from members
where connection_id = $1 and external_id > $2 and upstream_state <> 'removed'
order by external_id
limit $3;
