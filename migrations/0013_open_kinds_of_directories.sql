-- migrate:up

-- An installation may add kinds of directories; which there are its extensions say, not the table.
alter table connections
    drop constraint connections_kind_check,
    drop constraint directories_are_described,
    add constraint connections_kind_check check (kind ~ '^[a-z][a-z0-9_-]{0,49}$'),
    -- Sources that tell by themselves are not asked, and all others are.
    add constraint directories_are_described check ((kind in ('stream', 'scim')) = (directory is null));


-- migrate:down
-- Forward only: mend with a new migration.
