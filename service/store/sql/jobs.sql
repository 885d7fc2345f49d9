-- name: insert_job
-- Nothing where the subject has such a job queued or running, or the slot has had its job; a concurrent one is waited for.
insert into jobs (
    id, company_id, kind, subject_id, parameters, schedule_id, slot, requested_by, correlation_id, traceparent, state, resend_at
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'queued', clock_timestamp() + $11::interval)
on conflict do nothing
returning created_at;

-- name: insert_jobs
-- Many of them, each for a slot; those that something stands in the way of are missing from the answer.
insert into jobs (
    id, company_id, kind, subject_id, parameters, schedule_id, slot, requested_by, correlation_id, traceparent, state, resend_at
)
select
    id, company_id, kind, subject_id, parameters, schedule_id, slot, requested_by, correlation_id, traceparent, 'queued',
    clock_timestamp() + $11::interval
from unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::jsonb[], $6::uuid[], $7::timestamptz[], $8::text[], $9::text[], $10::text[]
) as new (id, company_id, kind, subject_id, parameters, schedule_id, slot, requested_by, correlation_id, traceparent)
on conflict do nothing
returning id, company_id, kind, subject_id, correlation_id, traceparent, created_at as said_at;

-- name: list_run_slots
-- The schedules of which this slot has had its job.
select j.schedule_id
from unnest($1::uuid[], $2::timestamptz[]) as due (schedule_id, slot)
join jobs j using (schedule_id, slot);

-- name: find_active_job
-- What stands in the way of another: the job of that slot, or the one that is queued or running for that subject.
select id from jobs
where schedule_id = $3 and slot = $4
union all
select id from jobs
where kind = $1 and subject_id is not distinct from $2 and state in ('queued', 'running')
limit 1;

-- name: claim_job
-- Run by this holder from now on; nothing where it is another's, has ended, or waits for its retry.
update jobs set
    state = 'running',
    attempts = attempts + 1,
    next_attempt_at = null,
    resend_at = null,
    lease_holder = $2,
    lease_fence = lease_fence + 1,
    lease_expires_at = clock_timestamp() + $3::interval,
    heartbeat_at = clock_timestamp(),
    started_at = coalesce(started_at, clock_timestamp())
where id = $1 and state = 'queued' and (next_attempt_at is null or next_attempt_at <= clock_timestamp())
returning
    id, company_id, kind, subject_id, parameters, requested_by, correlation_id, traceparent, attempts, lease_fence, progress;

-- name: renew_job
-- A lease that lapsed but that nobody took is still its holder's: the fence and the state say so.
update jobs set
    lease_expires_at = clock_timestamp() + $3::interval,
    heartbeat_at = clock_timestamp(),
    progress = coalesce($4, progress)
where id = $1 and lease_fence = $2 and state = 'running'
returning cancel_requested_at is not null as cancel_requested;

-- name: hold_job
-- The lock keeps the loop from taking the job back until the transaction ends, and lets its heartbeats through.
select true from jobs where id = $1 and lease_fence = $2 and state = 'running' for key share;

-- name: lock_due_jobs
-- Whose lease ran out, whose retry is due, whose message is lost; what another instance looks at is its own.
select id, state, attempts, lease_fence, cancel_requested_at is not null as cancel_requested
from jobs
where state in ('queued', 'running') and coalesce(lease_expires_at, next_attempt_at, resend_at) <= clock_timestamp()
order by coalesce(lease_expires_at, next_attempt_at, resend_at)
limit $1
for update skip locked;

-- name: lock_job
select id, state, attempts, lease_fence, cancel_requested_at is not null as cancel_requested
from jobs
where id = $1 and ($2::uuid is null or company_id = $2)
for update;

-- name: move_jobs
-- One step each; nothing where the job is no longer in the state from which the step leads, or its fence was raised.
update jobs j set
    state = m.state,
    attempts = m.attempts,
    next_attempt_at = clock_timestamp() + m.wait,
    resend_at = clock_timestamp() + m.resend_after,
    lease_holder = null,
    lease_expires_at = null,
    cancel_requested_at = case m.state
        when 'queued' then null
        when 'cancelled' then coalesce(j.cancel_requested_at, clock_timestamp())
        else j.cancel_requested_at
    end,
    result = case when m.state <> 'queued' then coalesce(m.result, j.result) end,
    error = m.error,
    finished_at = case when m.state <> 'queued' then clock_timestamp() end
from unnest(
    $1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::integer[], $6::interval[], $7::interval[], $8::jsonb[], $9::text[]
) as m (id, fence, was, state, attempts, wait, resend_after, result, error)
where j.id = m.id and j.lease_fence = m.fence and j.state = m.was
returning j.id, j.company_id, j.kind, j.subject_id, j.correlation_id, j.traceparent, clock_timestamp() as said_at;

-- name: request_cancel
update jobs set cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()) where id = $1 and state = 'running';

-- name: set_job_parameters
update jobs set parameters = $2 where id = $1;

-- name: find_job
select
    id, company_id, kind, subject_id, parameters, schedule_id, slot, requested_by, correlation_id, traceparent, state, attempts,
    next_attempt_at, heartbeat_at, cancel_requested_at, progress, result, error, created_at, started_at, finished_at
from jobs
where id = $1 and ($2::uuid is null or company_id = $2);

-- name: list_jobs
-- The newest first, below the last one of the page before.
select
    id, company_id, kind, subject_id, parameters, schedule_id, slot, requested_by, correlation_id, traceparent, state, attempts,
    next_attempt_at, heartbeat_at, cancel_requested_at, progress, result, error, created_at, started_at, finished_at
from jobs
where ($1::text is null or kind = $1)
    and ($2::text is null or state = $2)
    and ($3::timestamptz is null or (created_at, id) < ($3, $4::uuid))
order by created_at desc, id desc
limit $5;

-- name: list_jobs_of_company
-- The same of one company.
select
    id, company_id, kind, subject_id, parameters, schedule_id, slot, requested_by, correlation_id, traceparent, state, attempts,
    next_attempt_at, heartbeat_at, cancel_requested_at, progress, result, error, created_at, started_at, finished_at
from jobs
where company_id = $1
    and ($2::text is null or kind = $2)
    and ($3::text is null or state = $3)
    and ($4::timestamptz is null or (created_at, id) < ($4, $5::uuid))
order by created_at desc, id desc
limit $6;

-- name: list_jobs_of_subject
-- The same of one kind and subject.
select
    id, company_id, kind, subject_id, parameters, schedule_id, slot, requested_by, correlation_id, traceparent, state, attempts,
    next_attempt_at, heartbeat_at, cancel_requested_at, progress, result, error, created_at, started_at, finished_at
from jobs
where subject_id = $1
    and kind = $2
    and ($3::text is null or state = $3)
    and ($4::timestamptz is null or (created_at, id) < ($4, $5::uuid))
order by created_at desc, id desc
limit $6;
