-- migrate:up

-- Who is told of a company's events over HTTP.
create table subscribers (
    id uuid primary key,
    company_id uuid not null references companies,
    name text not null check (name <> ''),
    url text not null check (url ~ '^https?://'),
    -- Which events it wants: all of these must hold, an empty list always does.
    reason_codes text[] not null default '{}' check (reason_codes <@ array[
        'UPSTREAM_CHANGE', 'DIRECTORY_SYNC', 'EXPIRY_RECONCILIATION', 'PLAN_CHANGE', 'ADMIN', 'DRIFT_REPAIR'
    ]),
    new_states text[] not null default '{}' check (new_states <@ array[
        'pending', 'active', 'suspended', 'grace', 'expired', 'removed'
    ]),
    changed_fields text[] not null default '{}',
    -- A version waits until the one before it is delivered or exhausted.
    in_order boolean not null default false,
    state text not null default 'active' check (state in ('active', 'paused', 'disabled', 'removed')),
    disabled_because text check (disabled_because in ('gone', 'failing')),
    state_changed_at timestamptz not null default clock_timestamp(),
    state_changed_by text not null check (state_changed_by <> ''),
    -- Events that happened before were never meant for it.
    begins_at timestamptz not null default clock_timestamp(),
    -- Since when no attempt succeeded; null: the last one did, or there was none.
    failing_since timestamptz,
    -- It asked not to be called before.
    wait_until timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    created_by text not null check (created_by <> ''),
    unique (id, company_id),
    constraint disabled_is_explained check ((state = 'disabled') = (disabled_because is not null))
);

create unique index subscribers_by_name on subscribers (company_id, name) where state <> 'removed';

-- What it is signed with; while there are several, all of them sign.
create table subscriber_secrets (
    subscriber_id uuid not null,
    company_id uuid not null,
    reference text not null,
    -- null: until it is retired
    not_after timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    primary key (subscriber_id, reference),
    foreign key (subscriber_id, company_id) references subscribers (id, company_id),
    foreign key (company_id, reference) references secret_grants (company_id, reference)
);

-- One event for one subscriber, once, and once more for each replay. What is said is rebuilt from the audit.
create table deliveries (
    id bigint generated always as identity primary key,
    subscriber_id uuid not null references subscribers,
    -- null: a test, which is about nobody
    member_id uuid,
    version bigint,
    -- The job of a replay, or a test's own; null: as it happened.
    replay_id uuid,
    in_order boolean not null,
    state text not null check (state in ('waiting', 'pending', 'delivered', 'exhausted')),
    -- When it is tried, or tried again by another because whoever claimed it went silent.
    due_at timestamptz,
    claimed_at timestamptz,
    -- Raised by each claim: whoever holds an older one can no longer write.
    fence bigint not null default 0,
    -- All of them, and those since it was last asked for.
    attempts integer not null default 0,
    attempts_of_round integer not null default 0,
    last_status smallint,
    last_error text check (last_error <> ''),
    correlation_id text not null,
    traceparent text,
    created_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    constraint deliveries_by_event unique nulls not distinct (subscriber_id, member_id, version, replay_id),
    constraint event_is_whole check ((member_id is null) = (version is null)),
    constraint test_has_an_id check (member_id is not null or replay_id is not null),
    constraint pending_is_due check ((state = 'pending') = (due_at is not null)),
    constraint only_pending_is_claimed check (claimed_at is null or state = 'pending'),
    constraint only_ordered_waits check (state <> 'waiting' or in_order),
    constraint ended_delivery_is_dated check ((state in ('delivered', 'exhausted')) = (finished_at is not null)),
    constraint attempts_count check (attempts >= attempts_of_round and attempts_of_round >= 0)
) with (autovacuum_vacuum_scale_factor = 0.02);

-- What the notifier asks: what is due, subscriber by subscriber.
create index deliveries_by_due on deliveries (subscriber_id, due_at) where state = 'pending';
-- One at a time of a member, where order matters.
create unique index deliveries_in_order on deliveries (subscriber_id, member_id, replay_id) nulls not distinct
    where state = 'pending' and in_order;
create index deliveries_waiting on deliveries (subscriber_id, member_id, version) where state = 'waiting';
-- What people ask: the newest first.
create index deliveries_by_age on deliveries (subscriber_id, id desc);
-- What retention asks.
create index deliveries_by_end on deliveries (finished_at) where finished_at is not null;

create table delivery_attempts (
    delivery_id bigint not null references deliveries on delete cascade,
    number integer not null check (number > 0),
    started_at timestamptz not null,
    duration interval not null check (duration >= interval '0'),
    outcome text not null check (outcome in ('delivered', 'failed', 'gone')),
    -- null: there was no answer
    status smallint,
    -- Of what kind, and in words that show no secret.
    error_class text check (error_class <> ''),
    error text check (error <> ''),
    -- The beginning of the answer's body, where it had one.
    response text,
    primary key (delivery_id, number),
    constraint failed_attempt_is_explained check ((outcome = 'delivered') = (error is null)),
    constraint failed_attempt_is_classified check ((error is null) = (error_class is null))
);

-- How far the audit was searched for events of which no message came.
create table notification_sweep (
    only_one boolean primary key default true check (only_one),
    swept_to bigint not null
);

-- Whose first import told of nobody: these versions had no event.
create index sync_log_baselines on sync_log (correlation_id) where baseline and not dry_run;


-- migrate:down
-- Forward only: mend with a new migration.
