-- What each provider came to in a scan.

-- name: begin_part
-- The provider's part of a scan, begun or gone on with by a later attempt; no row where it has ended.
insert into scan_parts as p (scan_id, provider, state)
values ($1, $2, 'running')
on conflict (scan_id, provider) do update set state = 'running', error = null where p.state in ('running', 'waiting')
returning started_at;

-- name: count_in_part
-- What came of a batch, in its own transaction.
update scan_parts set found = found + $3, opened = opened + $4, resolved = resolved + $5 where scan_id = $1 and provider = $2;

-- name: finish_part
update scan_parts
set state = $3, error = $4, finished_at = case when $3 = 'waiting' then null else clock_timestamp() end
where scan_id = $1 and provider = $2 and state = 'running';

-- name: give_up_parts
-- No attempt comes after this one.
update scan_parts
set state = 'failed', finished_at = clock_timestamp(), error = coalesce(error, 'it was interrupted')
where scan_id = $1 and state in ('running', 'waiting');

-- name: list_parts
-- Of some scans; what a job left unfinished has failed.
select
    p.scan_id, p.provider,
    case when p.state in ('running', 'waiting') and j.state not in ('queued', 'running') then 'failed' else p.state end as state,
    p.started_at, p.finished_at, p.found, p.opened, p.resolved,
    case
        when p.state in ('running', 'waiting') and j.state not in ('queued', 'running') then coalesce(p.error, j.error, j.state)
        else p.error
    end as error
from scan_parts p
join scans s on s.id = p.scan_id
join jobs j on j.id = s.job_id
where p.scan_id = any ($1::uuid[])
order by p.scan_id, p.provider;
