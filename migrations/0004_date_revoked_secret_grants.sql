-- migrate:up

-- A grant that was taken back stays, dated: nothing that grants in passing may bring it back, only the operator by name.
alter table secret_grants add column revoked_at timestamptz;


-- migrate:down
-- Forward only: mend with a new migration.
