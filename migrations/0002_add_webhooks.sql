-- migrate:up

-- What a company may refer to. The operator grants it: a reference names one of the operator's own secrets, never its value.
create table secret_grants (
    company_id uuid not null references companies,
    reference text not null check (reference ~ '^env:ROLLCALL_SECRET_[A-Z0-9_]+$' or reference ~ '^file:[^/].*$'),
    granted_at timestamptz not null default now(),
    primary key (company_id, reference)
);

-- How a connection's webhooks are signed, how many it may send, and what they mean.
create table webhooks (
    connection_id uuid primary key,
    company_id uuid not null,
    scheme text not null check (scheme in ('standard-webhooks', 'github', 'shopify', 'stripe', 'workos', 'hmac')),
    -- Of `hmac` alone: header, algorithm, encoding, content and so on.
    settings jsonb not null default '{}' check (jsonb_typeof(settings) = 'object' and (scheme = 'hmac' or settings = '{}')),
    -- null: the default mapping
    mapping jsonb check (jsonb_typeof(mapping) = 'object'),
    rate_per_second integer not null default 500 check (rate_per_second between 1 and 100000),
    created_at timestamptz not null default now(),
    foreign key (connection_id, company_id) references connections (id, company_id),
    unique (connection_id, company_id)
);

create table webhook_secrets (
    connection_id uuid not null,
    company_id uuid not null,
    reference text not null,
    -- null: until it is retired
    not_after timestamptz,
    created_at timestamptz not null default now(),
    primary key (connection_id, reference),
    foreign key (connection_id, company_id) references webhooks (connection_id, company_id),
    foreign key (company_id, reference) references secret_grants (company_id, reference)
);

-- Token buckets that all instances share, on this database's clock.
create table rate_limits (
    bucket text primary key,
    tokens double precision not null check (tokens >= 0),
    -- What the last taker got.
    granted integer not null check (granted >= 0),
    refilled_at timestamptz not null
) with (fillfactor = 50);

create function tokens_at(tokens double precision, refilled_at timestamptz, rate double precision, burst double precision, at timestamptz)
returns double precision language sql immutable parallel safe
return least(burst, tokens + rate * greatest(0, extract(epoch from at - refilled_at)::double precision));


-- migrate:down
-- Forward only: mend with a new migration.
