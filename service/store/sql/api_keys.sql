-- name: insert_api_key
insert into api_keys (id, company_id, name, sha256, scopes, created_by, expires_at)
values ($1, $2, $3, $4, $5, $6, $7)
returning id, company_id, name, scopes, created_at, created_by, expires_at, revoked_at, revoked_by, last_used_at;

-- name: find_api_key
-- A key that may be used now, with its hash.
select id, company_id, sha256, scopes, last_used_at is null or last_used_at < now() - interval '1 hour' as is_stale
from api_keys
where id = $1 and revoked_at is null and (expires_at is null or expires_at > now());

-- name: note_api_key_use
-- At most once an hour, whoever else notes it at the same moment.
update api_keys set last_used_at = now() where id = $1 and (last_used_at is null or last_used_at < now() - interval '1 hour');

-- name: list_api_keys
-- Of a company, the newest first, below the last one of the page before.
select id, company_id, name, scopes, created_at, created_by, expires_at, revoked_at, revoked_by, last_used_at
from api_keys
where company_id = $1 and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid))
order by created_at desc, id desc
limit $4;

-- name: show_api_key
-- A key of a company, in whatever state.
select id, company_id, name, scopes, created_at, created_by, expires_at, revoked_at, revoked_by, last_used_at
from api_keys
where id = $1 and ($2::uuid is null or company_id = $2);

-- name: revoke_api_key
-- No row where it is not the company's, or was revoked before.
update api_keys
set revoked_at = now(), revoked_by = $3
where id = $1 and company_id = $2 and revoked_at is null
returning id;
