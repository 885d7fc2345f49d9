-- name: insert_drift_findings
-- Of a key that a read model names twice the first.
insert into drift_findings (run_id, key, what, reason)
select $1, key, what, reason
from unnest($2::text[], $3::text[], $4::text[]) as f (key, what, reason)
on conflict do nothing;

-- name: list_drift_findings
select key, what, reason from drift_findings where run_id = $1 order by what, key limit $2;

-- name: list_first_drift_findings
-- Of each of these runs the first $2.
select first.run_id, first.key, first.what, first.reason
from unnest($1::uuid[]) as run (id)
cross join lateral (
    select run_id, key, what, reason from drift_findings where run_id = run.id order by what, key limit $2
) as first
order by first.run_id, first.what, first.key;

-- name: page_drift_findings
-- Below the last one of the page before.
select key, what, reason
from drift_findings
where run_id = $1 and ($2::text is null or (what, key) > ($2, $3::text))
order by what, key
limit $4;
