-- migrate:up

alter table connections
    -- How a directory is asked and what its records mean.
    add column directory jsonb,
    -- null: it is asked without a key
    add column secret_reference text,
    add column last_full_sync_at timestamptz,
    add column last_incremental_sync_at timestamptz,
    -- From when on an incremental sync asks for changes.
    add column incremental_watermark timestamptz,
    add constraint connections_directory_check check (jsonb_typeof(directory) = 'object'),
    add constraint directories_are_described check ((kind in ('django', 'csv')) = (directory is not null)),
    add constraint keys_are_for_directories check (secret_reference is null or directory is not null),
    -- The operator's own directory alone is asked with the operator's own key.
    add constraint default_key_is_for_the_default check (secret_reference <> 'env:DJANGO_API_KEY' or name = 'default'),
    add constraint connections_company_id_secret_reference_fkey
        foreign key (company_id, secret_reference) references secret_grants (company_id, reference);

alter table secret_grants
    drop constraint secret_grants_reference_check,
    add constraint secret_grants_reference_check check (
        reference ~ '^env:ROLLCALL_SECRET_[A-Z0-9_]+$' or reference = 'env:DJANGO_API_KEY' or reference ~ '^file:[^/].*$'
    );

alter table webhook_secrets
    add constraint default_key_signs_no_webhooks check (reference <> 'env:DJANGO_API_KEY');


-- migrate:down
-- Forward only: mend with a new migration.
