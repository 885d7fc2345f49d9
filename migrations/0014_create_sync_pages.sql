-- migrate:up

-- Which records a running sync has read, a page a row: all keys in few bytes, for who is absent and what is told twice. Like sync_staging
-- it is thrown away, and nothing in it is missed after a crash.
create unlogged table sync_pages (
    job_id uuid not null,
    -- From 1; who seems to be gone may be looked for a second time.
    reading smallint not null,
    records integer not null check (records > 0),
    -- Joined by U+001F, which no key holds.
    keys text not null,
    -- One behind the other in the order of the keys, 16 bytes each, zeros of a record that means nothing; null where they are of no use.
    hashes bytea,
    -- null: nothing has a version
    versions bigint[],
    constraint each_key_has_a_hash check (octet_length(hashes) = 16 * records)
);
-- Hashes do not shrink, and keys that are thrown away in a minute are not worth the attempt.
alter table sync_pages alter column keys set storage external, alter column hashes set storage external;

-- What is kept of a reading is of the first one.
alter table sync_staging drop column reading;


-- migrate:down
-- Forward only: mend with a new migration.
