-- migrate:up

create table companies (
    id uuid primary key default gen_random_uuid(),
    name text not null unique check (name <> ''),
    time_zone text not null default 'UTC',
    -- null: the operator's GRACE_DAYS
    grace_days integer check (grace_days between 0 and 3650),
    created_at timestamptz not null default now()
);

create table connections (
    id uuid primary key default gen_random_uuid(),
    company_id uuid not null references companies,
    name text not null check (name <> ''),
    kind text not null check (kind in ('stream', 'django', 'csv', 'scim')),
    version_kind text not null check (version_kind in ('sequence', 'updated_at', 'none')),
    -- The member fields that belong to the source; a source never touches another field, nobody else touches these.
    mapped_fields text[] not null check (
        mapped_fields <@ array['national_id', 'name', 'email', 'phone', 'state', 'plan', 'starts_at', 'expires_at', 'metadata']
        and 'name' = any (mapped_fields)
    ),
    status text not null default 'active' check (status in ('active', 'blocked', 'archived')),
    created_at timestamptz not null default now(),
    unique (company_id, name),
    unique (id, company_id)
);

-- One row is one person's standing in one company. Version 0 is a tombstone: a key whose removal came before anything else.
create table members (
    id uuid primary key,
    company_id uuid not null references companies,
    connection_id uuid,
    external_id text,
    national_id text check (national_id <> '' and national_id !~ '[- ]'),
    name text check (name <> ''),
    email text,
    phone text,
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    upstream_state text not null check (upstream_state in ('pending', 'active', 'suspended', 'removed')),
    hold text check (hold <> ''),
    held_at timestamptz,
    plan text,
    pending_plan text,
    pending_start date,
    starts_at timestamptz,
    expires_at timestamptz,
    removed_at timestamptz,
    -- The standing last published; what holds now is standing(...) of the facts.
    state text not null check (state in ('pending', 'active', 'suspended', 'grace', 'expired', 'removed')),
    source_version bigint,
    source_hash bytea,
    upstream_applied_at timestamptz,
    version bigint not null check (version >= 0),
    created_at timestamptz not null default now(),
    foreign key (connection_id, company_id) references connections (id, company_id),
    constraint key_is_whole check ((connection_id is null) = (external_id is null)),
    constraint hold_is_dated check ((hold is null) = (held_at is null)),
    constraint pending_plan_is_dated check ((pending_plan is null) = (pending_start is null)),
    constraint removal_is_dated check ((upstream_state = 'removed') = (removed_at is not null)),
    constraint removed_is_published check ((upstream_state = 'removed') = (state = 'removed')),
    constraint only_the_removed_are_nameless check (name is not null or upstream_state = 'removed'),
    -- The driver reads an infinity as a time without a zone, with which no other can be compared.
    constraint dates_are_finite check (isfinite(starts_at) and isfinite(expires_at)),
    constraint version_zero_is_a_tombstone check (version > 0 or upstream_state = 'removed')
) with (fillfactor = 85);

-- Not deferrable: two transactions that store the same new member would only find out about each other when neither can go on.
create unique index members_by_key on members (connection_id, external_id);
create unique index members_by_national_id on members (national_id, company_id) where national_id is not null;
create index members_by_company on members (company_id, id);

-- Append-only. Each row is one member version and holds all that its MEMBERSHIP_UPDATED said, so that it can be sent again.
create table member_events (
    id bigint generated always as identity primary key,
    member_id uuid not null references members,
    version bigint not null check (version > 0),
    company_id uuid not null,
    connection_id uuid,
    external_id text,
    occurred_at timestamptz not null,
    reason_code text not null check (reason_code in
        ('UPSTREAM_CHANGE', 'DIRECTORY_SYNC', 'EXPIRY_RECONCILIATION', 'PLAN_CHANGE', 'ADMIN', 'DRIFT_REPAIR')),
    previous_state text,
    new_state text not null,
    changed_fields text[] not null,
    plan text,
    starts_at timestamptz,
    expires_at timestamptz,
    -- The changed fields only, with their values; personal data lives here and nowhere else in this table.
    before jsonb not null,
    after jsonb not null,
    actor text not null,
    correlation_id text not null,
    traceparent text,
    unique (member_id, version)
);

-- What was already taken in, by the key of its CloudEvent. No foreign key: the writer has just read the connection, and the check
-- would cost a fifth of the insert.
create table inbox (
    connection_id uuid not null,
    source text not null,
    message_id text not null,
    received_at timestamptz not null default now(),
    primary key (connection_id, source, message_id)
);

-- What must still be published. The order of one order_key is the order of its ids: writers lock the member first, and the sequence hands
-- ids out one by one (cache 1), so a lower id of the same key has always committed first.
create table outbox (
    id bigint generated always as identity (cache 1) primary key,
    order_key uuid not null,
    bucket smallint not null generated always as ((get_byte(uuid_send(order_key), 15) & 63)::smallint) stored,
    exchange text not null,
    routing_key text not null,
    type text not null,
    message_id text not null,
    correlation_id text not null,
    headers jsonb not null,
    body text not null,
    occurred_at timestamptz not null,
    created_at timestamptz not null default now(),
    attempts integer not null default 0,
    next_attempt_at timestamptz,
    last_error text,
    constraint failure_is_dated check ((attempts = 0) = (next_attempt_at is null)),
    constraint failure_is_explained check ((attempts = 0) = (last_error is null))
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Refused rows have indexes of their own: however many they are, who looks for fresh ones never reads them, and while there are none,
-- nothing is paid for asking whether one stands before a fresh one.
create index outbox_by_bucket on outbox (bucket, id) where next_attempt_at is null;
create index outbox_refused_by_order_key on outbox (order_key) where next_attempt_at is not null;
create index outbox_by_next_attempt on outbox (bucket, least(attempts, 4), next_attempt_at) where next_attempt_at is not null;
create index outbox_by_order_key on outbox (order_key, id);

-- A lease is held until expires_at by the database's clock; every change of holder raises the fence.
create table leases (
    resource text primary key,
    holder uuid,
    fence bigint not null default 0,
    expires_at timestamptz not null default '-infinity',
    constraint held_until_some_time check ((holder is null) = (expires_at = '-infinity'))
);

-- The one rule of what a member is, in SQL. The same rule in Python is service/domain/member.py: standing(); a property test holds them together.
create function standing(upstream_state text, hold text, expires_at timestamptz, grace interval, at timestamptz) returns text
language sql immutable parallel safe
return case
    when upstream_state = 'removed' then 'removed'
    when upstream_state = 'pending' then 'pending'
    when expires_at < at and (hold is not null or upstream_state = 'suspended') then 'expired'
    -- Subtracted: `expires_at + grace` counts days in the session's time zone, some of which have 23 hours.
    when expires_at < at and grace > interval '0' and at - expires_at <= grace then 'grace'
    when expires_at < at then 'expired'
    when hold is not null or upstream_state = 'suspended' then 'suspended'
    else 'active'
end;


-- migrate:down
-- Forward only: mend with a new migration.
