-- migrate:up

alter table companies
    -- Who looks at its members: {provider: its settings}, with references to secrets and never a secret.
    add column scan_providers jsonb not null default '{}' check (jsonb_typeof(scan_providers) = 'object');

-- One row is one scan of a company; the attempts of its job share it.
create table scans (
    id uuid primary key default gen_random_uuid(),
    -- Of two scans of a company the later has the greater one.
    number bigint not null generated always as identity,
    job_id uuid not null references jobs,
    company_id uuid not null references companies,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    -- null: its job has not come to its end, or ended without it.
    status text check (status in ('succeeded', 'partial', 'failed')),
    -- Live ones, as it began.
    members bigint not null check (members >= 0),
    correlation_id text not null,
    constraint scans_by_number unique (number),
    constraint scans_by_job unique (job_id),
    constraint ended_scan_has_a_status check ((finished_at is null) = (status is null))
);

create index scans_by_company on scans (company_id, number);
create index scans_by_age on scans (started_at);

-- What one provider came to in one scan.
create table scan_parts (
    scan_id uuid not null references scans on delete cascade,
    provider text not null check (provider ~ '^[a-z][a-z0-9_-]{0,49}$'),
    -- waiting: for another attempt of the job.
    state text not null check (state in ('running', 'waiting', 'succeeded', 'failed')),
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    found bigint not null default 0,
    opened bigint not null default 0,
    resolved bigint not null default 0,
    -- Free of values.
    error text check (error <> ''),
    primary key (scan_id, provider),
    constraint ended_part_is_dated check ((state in ('succeeded', 'failed')) = (finished_at is not null)),
    constraint failed_part_says_why check ((state in ('waiting', 'failed')) = (error is not null)),
    constraint part_counts_count check (least(found - opened, opened, resolved) >= 0)
);

-- What providers say of members. A finding that was resolved stays so: what is found again is a new one.
create table findings (
    id uuid primary key,
    company_id uuid not null references companies,
    member_id uuid not null references members,
    provider text not null check (provider ~ '^[a-z][a-z0-9_-]{0,49}$'),
    kind text not null check (kind ~ '^[a-z][a-z0-9_]{0,49}$'),
    -- Tells several of a kind at one member apart, such as the name of a breach.
    key text not null check (length(key) <= 200),
    severity text not null check (severity in ('low', 'medium', 'high', 'critical')),
    detail jsonb not null check (jsonb_typeof(detail) = 'object'),
    state text not null default 'open' check (state in ('open', 'resolved')),
    -- Numbers of scans: the first and the last that found it. No foreign keys: scans go before the findings that are still open.
    first_scan bigint not null,
    last_scan bigint not null,
    first_seen_at timestamptz not null default statement_timestamp(),
    last_seen_at timestamptz not null default statement_timestamp(),
    resolved_at timestamptz,
    resolution text check (resolution in ('not_found', 'member_left', 'provider_removed')),
    constraint resolution_is_whole check (
        case when state = 'resolved' then 2 else 0 end = num_nonnulls(resolved_at, resolution)
    ),
    constraint seen_in_order check (first_scan <= last_scan and first_seen_at <= last_seen_at)
    -- Seen again, a row changes where no index looks.
) with (fillfactor = 80);

create unique index findings_open on findings (member_id, provider, kind, key) where state = 'open';
create index findings_by_member on findings (member_id, id);
-- Pages of a company's findings, by what people ask for; those of a scan are of all states.
create index findings_by_company on findings (company_id, id);
create index findings_by_state on findings (company_id, state, id);
create index findings_by_provider on findings (company_id, state, provider, id);
create index findings_by_kind on findings (company_id, state, kind, id);
create index findings_by_severity on findings (company_id, state, severity, id);
create index findings_by_resolution on findings (resolved_at) where state = 'resolved';


-- migrate:down
-- Forward only: mend with a new migration.
