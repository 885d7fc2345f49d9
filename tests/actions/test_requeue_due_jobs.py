from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from service.actions.requeue_due_jobs import requeue_due_jobs
from service.actions.run_job import claim_job
from service.domain.jobs import MOST_ATTEMPTS, JobId, JobState
from service.telemetry.metric_names import JOBS_HANDED_ON, Stage
from service.telemetry.metrics import Metrics
from tests.jobs_rig import Jobs, open_jobs

LEASE = timedelta(seconds=30)


@pytest.fixture
async def jobs(module_database_url: str) -> AsyncIterator[Jobs]:
    async with open_jobs(module_database_url) as jobs:
        await jobs.fetch("truncate outbox, jobs cascade")
        yield jobs


async def abandoned(jobs: Jobs) -> JobId:
    job = await jobs.enqueue("works")
    assert await claim_job(jobs.database, job, uuid4(), LEASE) is not None
    await jobs.let_time_pass(job)
    return job


async def test_nothing_is_due_before_its_time(jobs: Jobs) -> None:
    await jobs.enqueue("works")
    assert await claim_job(jobs.database, await jobs.enqueue("works"), uuid4(), LEASE) is not None

    assert await requeue_due_jobs(jobs.database) == 0
    assert len(await jobs.messages()) == 2


async def test_a_job_whose_worker_went_silent_is_told_of_again_and_keeps_its_trace(jobs: Jobs) -> None:
    job = await abandoned(jobs)
    metrics = Metrics((Stage.JOBS,))

    assert await requeue_due_jobs(jobs.database, metrics=metrics) == 1
    assert await requeue_due_jobs(jobs.database, metrics=metrics) == 0

    row = await jobs.row(job)
    assert (row.state, row.attempts) == (JobState.QUEUED, 1)
    first, second = await jobs.messages()
    assert (first["order_key"], first["correlation_id"], first["body"]) == (job, row.correlation_id, second["body"])
    assert first["headers"]["ce-id"] != second["headers"]["ce-id"]
    assert metrics.counted(JOBS_HANDED_ON) == {("abandoned",): 1}


async def test_a_message_that_nobody_took_is_sent_again(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")
    await jobs.let_time_pass(job)

    assert await requeue_due_jobs(jobs.database) == 1
    assert await requeue_due_jobs(jobs.database) == 0
    assert len(await jobs.messages()) == 2


async def test_any_number_of_instances_tell_of_each_job_once(jobs: Jobs) -> None:
    ids = [await abandoned(jobs) for _ in range(60)]

    counts = await asyncio.gather(*(requeue_due_jobs(jobs.database, most=7) for _ in range(20)))

    assert sum(counts) == 60
    told = Counter(message["order_key"] for message in await jobs.messages())
    assert told == dict.fromkeys(ids, 2)


async def test_a_job_that_ends_its_workers_is_not_handed_on_for_ever(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")
    for _ in range(MOST_ATTEMPTS):
        assert await claim_job(jobs.database, job, uuid4(), LEASE) is not None
        await jobs.let_time_pass(job)
        await requeue_due_jobs(jobs.database)

    row = await jobs.row(job)
    assert (row.state, row.error) == (JobState.FAILED, "its worker ended without a word, the last of 5 attempts")
    assert len(await jobs.messages()) == MOST_ATTEMPTS


async def test_a_cancelled_job_whose_worker_went_silent_is_over(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")
    await claim_job(jobs.database, job, uuid4(), LEASE)
    await jobs.cancel(job)
    await jobs.let_time_pass(job)

    await requeue_due_jobs(jobs.database)

    assert (await jobs.row(job)).state is JobState.CANCELLED
    assert len(await jobs.messages()) == 1


async def test_the_longest_due_come_first(jobs: Jobs) -> None:
    ids = [await abandoned(jobs) for _ in range(5)]

    assert await requeue_due_jobs(jobs.database, most=2) == 2

    states = [(await jobs.row(job)).state for job in ids]
    assert states == [JobState.QUEUED] * 2 + [JobState.RUNNING] * 3


async def test_after_a_silence_the_message_is_sent_again_sooner_as_another_worker_may_have_frozen_with_it(jobs: Jobs) -> None:
    fresh, silent = await jobs.enqueue("works"), await abandoned(jobs)
    await requeue_due_jobs(jobs.database)

    waits = dict(await jobs.fetch("select id, resend_at - clock_timestamp() as wait from jobs"))

    assert timedelta(minutes=14) < waits[fresh] <= timedelta(minutes=15)
    assert timedelta(seconds=30) < waits[silent] <= timedelta(minutes=1)
