-- migrate:up

-- Who may use the admin API for a company. The key itself is shown once and stored nowhere.
create table api_keys (
    id uuid primary key,
    company_id uuid not null references companies,
    name text not null check (name <> ''),
    sha256 bytea not null check (octet_length(sha256) = 32),
    scopes text[] not null check (scopes <@ array['read', 'sync', 'admin'] and cardinality(scopes) > 0),
    created_at timestamptz not null default now(),
    created_by text not null check (created_by <> ''),
    -- null: until it is revoked
    expires_at timestamptz check (isfinite(expires_at)),
    revoked_at timestamptz,
    revoked_by text,
    -- To the hour: a row that is read by every request is not written by every request.
    last_used_at timestamptz,
    constraint revocation_is_whole check ((revoked_at is null) = (revoked_by is null))
);

create index api_keys_by_company on api_keys (company_id, created_at desc, id desc);

-- What was answered to a POST with an Idempotency-Key, written in the transaction of its effect; older than a day it means nothing.
create table idempotency_keys (
    -- Who asked, and for which company: two who choose the same key do not meet.
    principal text not null,
    key text not null check (key <> ''),
    -- Of method, path and body.
    fingerprint bytea not null,
    status smallint not null check (status between 200 and 299),
    headers jsonb not null check (jsonb_typeof(headers) = 'object'),
    body text not null,
    -- Whose personal data the answer holds, so that it goes with them.
    member_id uuid,
    created_at timestamptz not null default now(),
    primary key (principal, key)
);

create index idempotency_keys_by_age on idempotency_keys (created_at);
create index idempotency_keys_by_member on idempotency_keys (member_id) where member_id is not null;

-- Append-only. What was changed over the admin API and is no member; member changes have their own audit.
create table admin_events (
    id bigint generated always as identity primary key,
    company_id uuid not null references companies,
    occurred_at timestamptz not null default clock_timestamp(),
    -- `key:<id>`, `operator` or `cli`.
    actor text not null check (actor <> ''),
    action text not null check (action ~ '^[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*$'),
    subject_kind text not null,
    subject_id uuid not null,
    -- {field: {before, after}}, without secrets; a field of which only the change is told has null for both.
    changes jsonb not null default '{}' check (jsonb_typeof(changes) = 'object'),
    correlation_id text not null
);

create index admin_events_by_company on admin_events (company_id, id desc);

alter table connections
    -- Since when its records mean what they mean now: what is remembered of a member from before says nothing of whether a record
    -- tells anything new. null: since ever.
    add column meaning_changed_at timestamptz,
    add column archived_at timestamptz,
    add column archived_by text,
    add constraint archival_is_whole check (num_nonnulls(archived_at, archived_by) in (0, 2));


-- migrate:down
-- Forward only: mend with a new migration.
