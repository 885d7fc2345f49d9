-- migrate:up

-- One row is one comparison of one read model with what it is derived from; the attempts of its job share it.
create table drift_runs (
    id uuid primary key default gen_random_uuid(),
    job_id uuid not null references jobs,
    read_model text not null check (read_model <> ''),
    mode text not null check (mode in ('sampled', 'full')),
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    verdict text check (verdict in ('clean', 'breach', 'inconclusive')),
    compared bigint not null default 0,
    out_of_sync bigint not null default 0,
    errors bigint not null default 0,
    healed bigint not null default 0,
    -- There were keys that nobody looked at: a full run that was capped is none.
    truncated boolean not null default false,
    -- Consecutive breaches of the read model, after this run.
    streak integer not null default 0,
    -- The run that made the streak long enough.
    promoted boolean not null default false,
    -- Why it ended before its keys did; free of values.
    error text check (error <> ''),
    correlation_id text not null,
    constraint drift_runs_by_job unique (job_id, read_model),
    constraint finished_is_judged check ((finished_at is null) = (verdict is null)),
    constraint drift_counts_count check (least(compared - out_of_sync, out_of_sync - healed, healed, errors, streak) >= 0),
    constraint only_breaches_are_promoted check (not promoted or verdict = 'breach')
);

create index drift_runs_by_age on drift_runs (started_at desc, id desc);
create index drift_runs_by_read_model on drift_runs (read_model, started_at desc, id desc);

-- The keys of a run that were out of sync, or could not be compared; the first thousand.
create table drift_findings (
    run_id uuid not null references drift_runs,
    key text not null,
    what text not null check (what in ('drift', 'error')),
    -- Names of fields and rules, never values.
    reason text not null check (reason <> ''),
    primary key (run_id, key)
);

-- What is remembered of a read model from run to run, and what is set for it.
create table drift_streaks (
    read_model text primary key,
    breaches integer not null default 0 check (breaches >= 0),
    -- Told already; until a clean run nobody is told again.
    promoted boolean not null default false,
    -- What is out of sync is repaired.
    heals boolean not null default false,
    constraint promoted_after_breaches check (not promoted or breaches > 0)
);


-- migrate:down
-- Forward only: mend with a new migration.
