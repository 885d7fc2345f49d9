-- migrate:up

-- Whether it neither takes nor gives up what another difference may be about, a national id: such may be applied side by side.
alter table sync_delta add column independent boolean not null default false;


-- migrate:down
-- Forward only: mend with a new migration.
