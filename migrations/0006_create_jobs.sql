-- migrate:up

-- Work that takes longer than a message may: one row is one run of one kind for one subject, from its request to its end.
-- `schedule_id` and `slot` name the due time that asked for it.
create table jobs (
    id uuid primary key,
    -- null: a job of the whole installation
    company_id uuid references companies,
    kind text not null check (kind ~ '^[a-z][a-z0-9_]{0,49}$'),
    -- What it is about: a connection, a company; null: the whole installation.
    subject_id uuid,
    parameters jsonb not null default '{}' check (jsonb_typeof(parameters) = 'object'),
    schedule_id uuid,
    slot timestamptz check (isfinite(slot)),
    requested_by text not null check (requested_by <> ''),
    correlation_id text not null,
    traceparent text,
    state text not null check (state in ('queued', 'running', 'succeeded', 'partial', 'failed', 'quarantined', 'cancelled')),
    -- Begun ones, the present one among them; one that was given back or met an infrastructure that is away does not count.
    attempts integer not null default 0 check (attempts >= 0),
    -- When it is tried again; no message is on its way before.
    next_attempt_at timestamptz,
    -- A message is on its way; by then it is lost, and another is sent.
    resend_at timestamptz,
    lease_holder uuid,
    -- Raised by each claim: whoever holds an older one can no longer write.
    lease_fence bigint not null default 0,
    lease_expires_at timestamptz,
    heartbeat_at timestamptz,
    cancel_requested_at timestamptz,
    progress jsonb check (jsonb_typeof(progress) = 'object'),
    result jsonb check (jsonb_typeof(result) = 'object'),
    -- Why the last attempt failed; free of values.
    error text check (error <> ''),
    created_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    constraint slot_has_a_schedule check ((schedule_id is null) = (slot is null)),
    constraint queued_waits_for_its_message_or_its_retry
        check ((state = 'queued')::integer = num_nonnulls(resend_at, next_attempt_at)),
    constraint running_is_leased
        check (case when state = 'running' then 2 else 0 end = num_nonnulls(lease_holder, lease_expires_at)),
    constraint running_has_begun check (state <> 'running' or (attempts > 0 and started_at is not null and heartbeat_at is not null)),
    constraint ended_is_dated check ((state in ('queued', 'running')) = (finished_at is null)),
    constraint waiting_for_a_retry_is_explained check (next_attempt_at is null or error is not null),
    constraint failed_says_why check (state <> 'failed' or error is not null),
    constraint success_has_a_result check (state not in ('succeeded', 'partial', 'quarantined') or (result is not null and error is null)),
    constraint cancelled_was_requested check (state <> 'cancelled' or cancel_requested_at is not null),
    constraint queued_is_not_to_be_cancelled check (state <> 'queued' or cancel_requested_at is null),
    -- One run per slot, for ever.
    constraint jobs_by_slot unique (schedule_id, slot)
);

-- One at a time for each kind and subject.
create unique index jobs_active on jobs (kind, subject_id) nulls not distinct where state in ('queued', 'running');
-- What the loop asks: whose lease, retry or message is overdue.
create index jobs_by_due on jobs (coalesce(lease_expires_at, next_attempt_at, resend_at)) where state in ('queued', 'running');
-- What people ask: the newest first, all or one company's or one subject's.
create index jobs_by_age on jobs (created_at desc, id desc);
create index jobs_by_company on jobs (company_id, created_at desc, id desc);
create index jobs_by_subject on jobs (subject_id, kind, created_at desc, id desc) where subject_id is not null;


-- migrate:down
-- Forward only: mend with a new migration.
