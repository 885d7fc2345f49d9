-- migrate:up

alter table members
    -- What a pending plan change makes of expires_at; null: it stays.
    add column pending_expires_at timestamptz,
    add constraint pending_dates_are_finite check (isfinite(pending_expires_at) and isfinite(pending_start)),
    add constraint pending_dates_are_of_a_pending_plan check (pending_expires_at is null or pending_plan is not null),
    add constraint pending_plan_has_a_name check (pending_plan <> '');

-- Whose membership may have ended: all of them once expires_at is past.
create index members_by_expiry on members (expires_at, id) where state in ('active', 'suspended') and expires_at is not null;
-- Whose grace may have ended, which depends on the company's days. An index of its own: while it lasts, nobody reads them.
create index members_in_grace on members (company_id, expires_at, id) where state = 'grace';
create index members_by_pending_start on members (pending_start, id) where pending_plan is not null;

-- What was planned and what became of it; append-only.
create table plan_changes (
    id bigint generated always as identity primary key,
    member_id uuid not null references members,
    company_id uuid not null references companies,
    change_type text not null check (change_type in ('SCHEDULED', 'APPLIED', 'CANCELLED')),
    plan text not null check (plan <> ''),
    -- The day of pending_start, in the company's time zone.
    effective_date_day date not null check (isfinite(effective_date_day)),
    expires_at timestamptz check (isfinite(expires_at)),
    actor text not null check (actor <> ''),
    correlation_id text not null,
    occurred_at timestamptz not null default clock_timestamp()
);

-- One change takes effect on one day, whatever the locks do.
create unique index plan_changes_applied on plan_changes (member_id, effective_date_day) where change_type = 'APPLIED';
create index plan_changes_by_member on plan_changes (member_id, id desc);

-- When what is done again and again is due next. A slot is one due time; jobs_by_slot gives it one job.
create table schedules (
    id uuid primary key default gen_random_uuid(),
    -- null: the whole installation
    company_id uuid references companies,
    kind text not null check (kind in
        ('directory_sync', 'scan', 'expiry', 'plan_changes', 'drift_sampled', 'drift_full', 'retention')),
    -- What it is about: a connection, a company; null: the whole installation.
    subject_id uuid,
    parameters jsonb not null default '{}' check (jsonb_typeof(parameters) = 'object'),
    interval_ms bigint check (interval_ms between 1000 and 366 * 86400000::bigint),
    -- Minute, hour, day, month and weekday, by the clocks of the time zone.
    cron text check (cron <> ''),
    time_zone text check (time_zone <> ''),
    -- The next slot.
    next_run_at timestamptz not null check (isfinite(next_run_at)),
    last_run_at timestamptz check (isfinite(last_run_at)),
    -- Slots that had no job because several had passed since the last look.
    skipped bigint not null default 0 check (skipped >= 0),
    enabled boolean not null default true,
    created_at timestamptz not null default clock_timestamp(),
    constraint either_an_interval_or_a_cron_expression check (num_nonnulls(interval_ms, cron) = 1),
    constraint cron_expressions_have_a_time_zone check ((cron is null) = (time_zone is null)),
    constraint schedules_of_companies_have_a_subject check (company_id is null or subject_id is not null),
    -- One for each kind and subject, as of jobs.
    constraint schedules_by_subject unique nulls not distinct (kind, subject_id)
);

create index schedules_due on schedules (next_run_at) where enabled;
create index schedules_by_company on schedules (company_id, kind, id);

-- Whether a connection's sync waits for somebody to look at it.
create index sync_log_open_quarantine_by_connection on sync_log (connection_id)
    where status = 'quarantined' and review is null and not dry_run;


-- migrate:down
-- Forward only: mend with a new migration.
