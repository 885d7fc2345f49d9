-- migrate:up

alter table connections
    -- A sync that would remove more than so many, or than this share of the live members and more than a few, waits for somebody.
    add column most_removals integer not null default 500,
    add column most_removed_percent double precision not null default 5,
    add column few_removals integer not null default 5,
    add constraint removal_limits_are_limits
        check (most_removals >= 0 and most_removed_percent between 0 and 100 and few_removals >= 0);

-- One row is one run of a sync: its attempts share it. A quarantined run ends here, and what somebody makes of it is a run of its own.
create table sync_log (
    id uuid primary key default gen_random_uuid(),
    job_id uuid not null references jobs,
    company_id uuid not null,
    connection_id uuid not null,
    type text not null check (type in ('membership', 'webhook', 'manual')),
    mode text not null check (mode in ('full', 'incremental')),
    dry_run boolean not null,
    baseline boolean not null,
    status text not null default 'pending' check (status in ('pending', 'success', 'partial', 'failed', 'quarantined')),
    started_at timestamptz not null default clock_timestamp(),
    -- When the last snapshot began to be read.
    snapshot_began_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    fetched integer not null default 0,
    added integer not null default 0,
    updated integer not null default 0,
    reactivated integer not null default 0,
    removed integer not null default 0,
    verified integer not null default 0,
    -- The stream was faster.
    left_alone integer not null default 0,
    error_count integer not null default 0,
    error text check (error <> ''),
    details jsonb not null default '{}' check (jsonb_typeof(details) = 'object'),
    -- The quarantined run whose list was approved.
    approves uuid references sync_log,
    review text check (review in ('approved', 'rejected', 'superseded')),
    reviewed_at timestamptz,
    reviewed_by text,
    correlation_id text not null,
    foreign key (connection_id, company_id) references connections (id, company_id),
    constraint finished_is_dated check ((status = 'pending') = (finished_at is null)),
    constraint failed_is_explained check ((status = 'failed') = (error is not null)),
    constraint counts_count check (least(fetched, added, updated, reactivated, removed, verified, left_alone, error_count) >= 0),
    constraint review_is_whole check (num_nonnulls(review, reviewed_at, reviewed_by) in (0, 3)),
    constraint only_quarantines_are_reviewed check (review is null or (status = 'quarantined' and not dry_run))
);

create unique index sync_log_pending on sync_log (job_id) where status = 'pending';
create unique index sync_log_open_quarantine on sync_log (job_id) where status = 'quarantined' and review is null and not dry_run;
create index sync_log_by_job on sync_log (job_id, started_at desc);
create index sync_log_by_company on sync_log (company_id, started_at desc, id desc);
create index sync_log_by_connection on sync_log (connection_id, started_at desc, id desc);

-- What a run says of single records: every problem; of a dry run every difference, with its values; of a quarantined one whom it would remove.
create table sync_entries (
    id bigint generated always as identity,
    log_id uuid not null references sync_log,
    what text not null check (what in ('added', 'updated', 'reactivated', 'removed', 'invalid', 'conflicting')),
    -- null: a record without a key that can be read
    external_id text,
    member_id uuid,
    -- Free of values.
    reason text,
    -- Of a dry run: {field: {before, after}}; personal data.
    changes jsonb check (jsonb_typeof(changes) = 'object'),
    primary key (log_id, id),
    constraint problem_is_explained check (what not in ('invalid', 'conflicting') or reason is not null)
);

create index sync_entries_by_key on sync_entries (log_id, external_id);

-- What a running sync has read, by its job; nothing in it is missed after a crash: the next attempt reads again. Without an index:
-- it is written once, read through a few times, and emptied.
create unlogged table sync_staging (
    job_id uuid not null,
    -- From 1; who seems to be gone may be looked for a second time.
    reading smallint not null,
    external_id text,
    source_hash bytea,
    -- The normalised fields as JSON.
    content bytea,
    national_id text,
    version bigint,
    updated_at timestamptz,
    -- Why it cannot be processed; its key is protected all the same.
    reason text,
    -- The snapshot holds two truths of this key.
    contradicts boolean not null default false,
    constraint staged_is_usable_or_explained check (
        num_nonnulls(source_hash, reason) = 1 and (reason is not null or (external_id is not null and content is not null))
    )
);

-- Where a snapshot and the members differ, in the order in which it is applied.
create unlogged table sync_delta (
    job_id uuid not null,
    place bigint not null,
    what text not null check (what in ('added', 'updated', 'reactivated', 'touched', 'left', 'absent', 'invalid', 'conflicting')),
    external_id text,
    member_id uuid,
    was_live boolean not null,
    source_hash bytea,
    content bytea,
    national_id text,
    version bigint,
    updated_at timestamptz,
    -- The key that the snapshot lacks and whose row this record's national id has.
    replaces text,
    replaces_live boolean not null default false,
    reason text,
    primary key (job_id, place)
);


-- migrate:down
-- Forward only: mend with a new migration.
