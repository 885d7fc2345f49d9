-- migrate:up

-- Messages that came back unanswered are handled alone, and each attempt is written down before it begins: one that never ended ended its
-- process. No personal data: `message` is a digest.
create table lone_attempts (
    message bytea primary key,
    unfinished integer not null check (unfinished > 0),
    begun_at timestamptz not null default now()
);


-- migrate:down
-- Forward only: mend with a new migration.
