-- name: discard_staging
-- Of this job, and whatever attempts left behind that ended without a word.
delete from sync_staging s
where s.job_id = $1 or not exists (select from jobs j where j.id = s.job_id and j.state = 'running');

-- name: analyze_staging
analyze sync_staging;
