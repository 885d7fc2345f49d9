"""Who may go on with a job: leases kept and lost, and attempts that are cancelled, interrupted or given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from service.actions.requeue_due_jobs import requeue_due_jobs
from service.actions.run_job import run_job
from service.actions.running_job import JobKind, LeaseLost, RunningJob
from service.domain.errors import Unavailable
from service.domain.jobs import JobResult, JobState
from service.store.jobs import renew_job
from tests.jobs_rig import CALM, QUICK, Jobs, claim, open_jobs, run


@pytest.fixture
async def jobs(module_database_url: str) -> AsyncIterator[Jobs]:
    async with open_jobs(module_database_url) as jobs:
        await jobs.fetch("truncate outbox, jobs, job_effects cascade")
        yield jobs


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
