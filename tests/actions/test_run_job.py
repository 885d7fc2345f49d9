from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from service.actions.requeue_due_jobs import requeue_due_jobs
from service.actions.run_job import JobOptions, claim_job, run_job
from service.actions.running_job import JobKind, LeaseLost, RunningJob
from service.domain.errors import Unavailable
from service.domain.jobs import JobId, JobResult, JobState
from service.store.database import Database
from service.store.jobs import renew_job
from service.telemetry.handling import handling
from service.telemetry.metric_names import JOB_DURATION, Stage
from service.telemetry.metrics import Metrics
from tests.jobs_rig import QUICK, Jobs, open_jobs

LEASE = timedelta(seconds=30)
# Long enough for what does not end by its lease, however slow the machine is.
CALM = replace(QUICK, lease=LEASE)


@pytest.fixture
async def jobs(module_database_url: str) -> AsyncIterator[Jobs]:
    async with open_jobs(module_database_url) as jobs:
        await jobs.fetch("truncate outbox, jobs, job_effects cascade")
        yield jobs


async def claim(jobs: Jobs, job: JobId, lease: timedelta = LEASE) -> RunningJob:
    claimed = await claim_job(jobs.database, job, uuid4(), lease)
    assert claimed is not None
    return claimed


async def run(jobs: Jobs, job: JobId, options: JobOptions = CALM, **given: Any) -> JobState | None:
    claimed = await claim(jobs, job, options.lease)
    return await run_job(jobs.database, claimed, jobs.kinds[claimed.kind], options=options, **{"jitter": lambda: 0.5, **given})


async def test_a_job_runs_and_ends_with_what_its_function_said(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")

    assert await run(jobs, job) is JobState.SUCCEEDED

    row = await jobs.row(job)
    assert (row.state, row.attempts, row.result, row.error) == (JobState.SUCCEEDED, 1, {"attempt": 1}, None)
    assert row.started_at is not None
    assert row.finished_at is not None
    assert await jobs.effects(job) == [(1, 0)]


@pytest.mark.parametrize("state", ["succeeded", "partial", "quarantined", "failed"])
async def test_each_result_is_a_state_of_its_own_and_keeps_what_it_tells(jobs: Jobs, state: str) -> None:
    job = await jobs.enqueue("ends", state=state, seen=3)

    assert await run(jobs, job) == state

    row = await jobs.row(job)
    assert (row.state, row.result) == (state, {"state": state, "seen": 3})
    assert row.error == ("cannot be done" if state == "failed" else None)


async def test_of_many_that_claim_one_job_one_gets_it(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")

    claims = await asyncio.gather(*(claim_job(jobs.database, job, uuid4(), LEASE) for _ in range(10)))

    assert len([claimed for claimed in claims if claimed is not None]) == 1
    assert (await jobs.row(job)).attempts == 1


async def test_what_runs_has_ended_or_does_not_exist_cannot_be_claimed(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")
    await claim(jobs, job)
    ended = await jobs.enqueue("works")
    await run(jobs, ended)

    for other in (job, ended, JobId(uuid4())):
        assert await claim_job(jobs.database, other, uuid4(), LEASE) is None


async def test_retries_come_after_1_5_15_and_60_minutes_and_the_fifth_failure_is_the_end(jobs: Jobs) -> None:
    job = await jobs.enqueue("fails", **{"with": "source"})
    waits = []
    for _ in range(4):
        assert await run(jobs, job) is JobState.QUEUED
        row = await jobs.row(job)
        assert row.error == "the directory answers 503"
        ((wait,),) = await jobs.fetch("select next_attempt_at - heartbeat_at from jobs where id = $1", job)
        waits.append(wait)
        # Its wait is not over: a message that comes again begins nothing.
        assert await claim_job(jobs.database, job, uuid4(), LEASE) is None
        await jobs.let_time_pass(job)
        assert await requeue_due_jobs(jobs.database) == 1

    assert await run(jobs, job) is JobState.FAILED
    minutes = [round(wait.total_seconds() / 60) for wait in waits]
    assert minutes == [1, 5, 15, 60]
    row = await jobs.row(job)
    assert (row.state, row.attempts, row.error, row.next_attempt_at) == (JobState.FAILED, 5, "the directory answers 503", None)
    # The first message and one for each retry.
    assert len(await jobs.messages()) == 5


async def test_an_attempt_that_works_ends_the_retries(jobs: Jobs) -> None:
    job = await jobs.enqueue("fails", times=1, **{"with": "source"})

    assert await run(jobs, job) is JobState.QUEUED
    await jobs.let_time_pass(job)
    await requeue_due_jobs(jobs.database)
    assert await run(jobs, job) is JobState.SUCCEEDED

    row = await jobs.row(job)
    assert (row.result, row.error) == ({"attempt": 2}, None)


async def test_retry_after_wins_over_the_schedule(jobs: Jobs) -> None:
    job = await jobs.enqueue("fails", retry_after=7200, **{"with": "source"})

    await run(jobs, job)

    ((wait,),) = await jobs.fetch("select next_attempt_at - heartbeat_at from jobs where id = $1", job)
    assert round(wait.total_seconds() / 60) == 120


async def test_what_trying_again_cannot_help_fails_at_once(jobs: Jobs) -> None:
    job = await jobs.enqueue("fails", **{"with": "park"})

    assert await run(jobs, job) is JobState.FAILED
    row = await jobs.row(job)
    assert (row.attempts, row.error) == (1, "the directory answers no JSON")


async def test_infrastructure_that_is_away_costs_no_attempt(jobs: Jobs) -> None:
    job = await jobs.enqueue("fails", **{"with": "away"})

    assert await run(jobs, job) is JobState.QUEUED
    row = await jobs.row(job)
    assert (row.attempts, row.error) == (0, "the database does not answer")
    assert row.next_attempt_at is not None


async def test_an_error_without_a_rule_is_retried_and_its_text_goes_nowhere(jobs: Jobs, caplog: pytest.LogCaptureFixture) -> None:
    job = await jobs.enqueue("fails", **{"with": "a defect"})

    with caplog.at_level(logging.DEBUG):
        assert await run(jobs, job) is JobState.QUEUED

    assert (await jobs.row(job)).error == "RuntimeError"
    assert "010101" not in caplog.text


async def test_an_attempt_that_takes_too_long_is_interrupted_and_has_failed(jobs: Jobs) -> None:
    job = await jobs.enqueue("brief")

    assert await run(jobs, job) is JobState.QUEUED
    assert (await jobs.row(job)).error == "it did not end within 0:00:00.300000"


async def test_a_result_that_cannot_be_stored_fails_the_job(jobs: Jobs) -> None:
    job = await jobs.enqueue("ends", state="succeeded")
    claimed = await claim(jobs, job)

    async def unfit(_: RunningJob) -> JobResult:
        return JobResult.succeeded({"name": "a\x00b"})

    assert await run_job(jobs.database, claimed, JobKind(unfit), options=CALM) is JobState.FAILED
    error = (await jobs.row(job)).error
    assert error is not None
    assert error.startswith("its result: ")


async def test_progress_that_cannot_be_stored_fails_the_job(jobs: Jobs) -> None:
    claimed = await claim(jobs, await jobs.enqueue("hangs"))

    async def unfit(job: RunningJob) -> JobResult:
        await job.progress(phase="a\x00b")
        await asyncio.Event().wait()
        raise AssertionError

    assert await run_job(jobs.database, claimed, JobKind(unfit), options=CALM) is JobState.FAILED


async def test_a_hanging_job_keeps_its_lease_and_tells_its_progress(jobs: Jobs) -> None:
    job = await jobs.enqueue("hangs")
    running = asyncio.create_task(run(jobs, job, QUICK))

    beating = await jobs.until(job, lambda row: row.progress is not None)
    first = beating.heartbeat_at
    assert beating.progress == {"phase": "hangs"}
    # For more than two leases.
    await jobs.until(
        job, lambda row: first is not None and row.heartbeat_at is not None and row.heartbeat_at - first > 2 * QUICK.lease
    )
    assert await requeue_due_jobs(jobs.database) == 0

    await jobs.cancel(job)
    assert await running is JobState.CANCELLED


async def test_progress_is_written_once_a_look_however_often_it_is_told(jobs: Jobs) -> None:
    job = await jobs.enqueue("hangs")
    claimed = await claim(jobs, job)
    counted = CountingStatements(jobs.database)

    async def tells(running: RunningJob) -> JobResult:
        for count in range(5000):
            await running.progress(fetched=count)
        await asyncio.sleep(0.1)
        for count in range(5000, 10_000):
            await running.progress(fetched=count)
        await jobs.until(job, lambda row: row.progress == {"fetched": 9999})
        return JobResult.succeeded({})

    assert await run_job(counted, claimed, JobKind(tells), options=replace(CALM, beat=timedelta(hours=1))) is JobState.SUCCEEDED
    assert counted.statements <= 3


async def test_cancelling_stops_a_running_job_at_its_next_step(jobs: Jobs) -> None:
    job = await jobs.enqueue("steps", steps=10_000, pause=0.01)
    running = asyncio.create_task(run(jobs, job, replace(CALM, stop_within=timedelta(hours=1))))
    await jobs.until(job, lambda row: row.progress is not None)

    await jobs.cancel(job)

    assert await running is JobState.CANCELLED
    row = await jobs.row(job)
    assert (row.state, row.error) == (JobState.CANCELLED, None)
    assert row.cancel_requested_at is not None
    assert 0 < len(await jobs.effects(job)) < 10_000


async def test_cancelling_interrupts_a_job_that_hangs(jobs: Jobs) -> None:
    job = await jobs.enqueue("hangs")
    running = asyncio.create_task(run(jobs, job))
    await jobs.until(job, lambda row: row.progress is not None)

    await jobs.cancel(job)

    assert await running is JobState.CANCELLED


async def test_a_cancellation_that_no_heartbeat_saw_is_not_forgotten_by_a_failure(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")
    claimed = await claim(jobs, job)

    async def fails(_: RunningJob) -> JobResult:
        await jobs.cancel(job)
        raise Unavailable("the database does not answer")

    assert await run_job(jobs.database, claimed, JobKind(fails), options=CALM) is JobState.CANCELLED


async def test_a_worker_that_stops_gives_the_job_back_for_another_to_take_at_once(jobs: Jobs) -> None:
    job = await jobs.enqueue("steps", steps=10_000, pause=0.01)
    claimed = await claim(jobs, job)
    running = asyncio.create_task(run_job(jobs.database, claimed, jobs.kinds["steps"], options=CALM))
    await jobs.until(job, lambda row: row.progress is not None)

    claimed.stop()

    assert await running is JobState.QUEUED
    row = await jobs.row(job)
    assert (row.attempts, row.next_attempt_at) == (0, None)
    assert row.progress is not None
    assert len(await jobs.messages()) == 2
    again = await claim(jobs, job)
    assert again.attempt == 1
    assert again.told == row.progress


async def test_a_worker_that_stops_interrupts_a_job_that_hangs_and_gives_it_back(jobs: Jobs) -> None:
    job = await jobs.enqueue("hangs")
    claimed = await claim(jobs, job)
    running = asyncio.create_task(run_job(jobs.database, claimed, jobs.kinds["hangs"], options=CALM))
    await jobs.until(job, lambda row: row.progress is not None)

    claimed.stop()

    assert await running is JobState.QUEUED


async def test_a_job_that_cannot_be_stopped_is_left_to_its_lease(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")
    claimed = await claim(jobs, job, QUICK.lease)
    begun, released, refused = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def deaf(running: RunningJob) -> JobResult:
        begun.set()
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        async with jobs.database.transaction() as tx:
            try:
                await running.hold(tx)
            except LeaseLost:
                refused.set()
                raise
        raise AssertionError

    options = replace(QUICK, stop_within=timedelta(0), end_within=timedelta(seconds=0.1))
    running = asyncio.create_task(run_job(jobs.database, claimed, JobKind(deaf), options=options))
    await begun.wait()
    claimed.stop()

    assert await running is None
    assert (await jobs.row(job)).state is JobState.RUNNING
    await taken_back(jobs)
    assert await run(jobs, job) is JobState.SUCCEEDED
    # What it still writes under its old lease is refused.
    released.set()
    await asyncio.wait_for(refused.wait(), 10)
    assert await jobs.effects(job) == [(2, 0)]


async def taken_back(jobs: Jobs) -> None:
    async with asyncio.timeout(20):
        while not await requeue_due_jobs(jobs.database):
            await asyncio.sleep(0.05)


async def test_who_lost_the_lease_can_neither_finish_report_nor_commit(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")
    first = await claim(jobs, job)
    await jobs.let_time_pass(job)
    await requeue_due_jobs(jobs.database)
    second = await claim(jobs, job)

    # Its own clock says that it has the lease: only the database knows better.
    assert first.lease_is_held
    assert await run_job(jobs.database, first, jobs.kinds["works"], options=CALM) is None
    assert await jobs.effects(job) == []
    # Nor can one that asks nobody whether it still has it.
    assert await run_job(jobs.database, first, JobKind(_returns), options=CALM) is None
    row = await jobs.row(job)
    assert (row.state, row.attempts, row.result) == (JobState.RUNNING, 2, None)

    assert await run_job(jobs.database, first, JobKind(_tells_and_waits), options=CALM) is None
    assert not first.lease_is_held
    assert (await jobs.row(job)).progress is None

    assert await run_job(jobs.database, second, jobs.kinds["works"], options=CALM) is JobState.SUCCEEDED
    assert await jobs.effects(job) == [(2, 0)]


async def _returns(_: RunningJob) -> JobResult:
    return JobResult.succeeded({"by": "the first"})


async def _tells_and_waits(job: RunningJob) -> JobResult:
    await job.progress(fetched=13)
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_job_is_not_taken_over_in_the_middle_of_a_transaction_that_holds_it(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")
    claimed = await claim(jobs, job)
    await jobs.let_time_pass(job)

    async with jobs.database.transaction() as tx:
        await claimed.hold(tx)
        assert await requeue_due_jobs(jobs.database) == 0
        # Its heartbeat is not in the way.
        async with jobs.database.statement() as beat:
            assert await renew_job(beat, job, claimed.fence, timedelta(0), None) is False
    assert await requeue_due_jobs(jobs.database) == 1


async def test_the_run_is_known_to_all_that_the_function_does(jobs: Jobs) -> None:
    enqueued = await jobs.try_enqueue("works", correlation_id="run-5", traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    claimed = await claim(jobs, enqueued.job_id)
    seen: list[Any] = []

    async def looks(_: RunningJob) -> JobResult:
        seen.append(handling())
        return JobResult.succeeded({})

    await run_job(jobs.database, claimed, JobKind(looks), options=CALM)

    assert seen[0].correlation_id == "run-5"
    assert seen[0].traced.traceparent == claimed.traceparent
    assert claimed.traceparent is not None
    assert claimed.traceparent.startswith("00-" + "a" * 32)


async def test_attempts_are_counted_by_kind_and_end(jobs: Jobs) -> None:
    metrics = Metrics((Stage.JOBS,))
    await run(jobs, await jobs.enqueue("works"), metrics=metrics)
    await run(jobs, await jobs.enqueue("fails", **{"with": "park"}), metrics=metrics)
    await run(jobs, await jobs.enqueue("fails", **{"with": "source"}), metrics=metrics)

    assert metrics.counted(JOB_DURATION) == {("works", "succeeded"): 1, ("fails", "failed"): 1, ("fails", "requeued"): 1}


class CountingStatements(Database):
    """Another's pool, whose single statements are counted."""

    def __init__(self, database: Database) -> None:
        super().__init__(database._pool)
        self.statements = 0

    def statement(self) -> Any:
        self.statements += 1
        return super().statement()
