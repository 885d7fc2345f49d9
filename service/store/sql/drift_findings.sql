-- name: insert_drift_findings
insert into drift_findings (run_id, key, what, reason)
select $1, key, what, reason
from unnest($2::text[], $3::text[], $4::text[]) as f (key, what, reason);

-- name: list_drift_findings
select key, what, reason from drift_findings where run_id = $1 order by what, key limit $2;
