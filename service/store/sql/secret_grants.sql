-- name: grant_secret
-- A company may refer to this secret of the operator's.
insert into secret_grants (company_id, reference)
values ($1, $2)
on conflict do nothing;
