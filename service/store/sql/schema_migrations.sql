-- name: has_migrations
-- Whether this database was ever migrated.
select to_regclass('schema_migrations') is not null;

-- name: applied_migrations
-- The versions that were applied.
select version from schema_migrations order by version;
