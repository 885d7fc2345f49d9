-- name: hold_idempotency_key
-- Whether nobody else answers under this key at this moment; held to the end of the transaction.
select pg_try_advisory_xact_lock(hashtextextended('idempotency:' || $1::text || ':' || $2::text, 0));

-- name: find_answer
-- What was answered under this key within a day.
select fingerprint, status, headers, body
from idempotency_keys
where principal = $1 and key = $2 and created_at > now() - interval '24 hours';

-- name: keep_answer
-- An answer of more than a day ago makes room.
insert into idempotency_keys (principal, key, fingerprint, status, headers, body, member_id)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (principal, key) do update set
    fingerprint = excluded.fingerprint,
    status = excluded.status,
    headers = excluded.headers,
    body = excluded.body,
    member_id = excluded.member_id,
    created_at = excluded.created_at;

-- name: discard_old_answers
-- A few that are older than a day: whoever adds one takes more than one away.
delete from idempotency_keys
where (principal, key) in (
    select principal, key
    from idempotency_keys
    where created_at <= now() - interval '24 hours'
    order by created_at
    limit 10
    for update skip locked
);

-- name: discard_answers_about
-- What was answered about a member.
delete from idempotency_keys where member_id = $1;
