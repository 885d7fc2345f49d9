"""Workers as processes of their own, killed and stopped in the middle of a job."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from service.domain.jobs import JobState
from tests.jobs_rig import Jobs, open_jobs
from tests.relay_rig import running_relay
from tests.service_rig import RunningService, clean_broker, running_module


@pytest.fixture
async def jobs(database_url: str, rabbitmq_url: str) -> AsyncIterator[Jobs]:
    async with clean_broker(rabbitmq_url), running_relay(database_url, rabbitmq_url), open_jobs(database_url) as jobs:
        yield jobs


def worker(database_url: str, rabbitmq_url: str) -> AbstractAsyncContextManager[RunningService]:
    return running_module(database_url, rabbitmq_url, "tests.jobs_rig")


async def test_a_job_whose_worker_is_killed_is_taken_over_after_its_lease_and_ends_once(
    jobs: Jobs, database_url: str, rabbitmq_url: str
) -> None:
    async with worker(database_url, rabbitmq_url) as first:
        await first.says("worker takes messages")
        job = await jobs.enqueue("steps", steps=6, dies_at=2)
        async with asyncio.timeout(30):
            assert await first.process.wait() == -signal.SIGKILL
    left = await jobs.row(job)
    assert (left.state, left.attempts) == (JobState.RUNNING, 1)

    async with worker(database_url, rabbitmq_url) as second:
        row = await jobs.ended(job)
        assert await second.terminate() == 0
        said = {line["event"]: line for line in second.logs}

    assert (row.state, row.attempts, row.result) == (JobState.SUCCEEDED, 2, {"steps": 6, "attempt": 2})
    assert await jobs.effects(job) == [*((1, step) for step in range(3)), *((2, step) for step in range(6))]
    # One run, in both workers' logs, whoever ran it.
    assert said["job begins"]["correlation_id"] == said["job ended"]["correlation_id"] == str(job)


async def test_a_worker_that_slept_through_its_lease_can_neither_finish_nor_report(
    jobs: Jobs, database_url: str, rabbitmq_url: str
) -> None:
    async with worker(database_url, rabbitmq_url) as first:
        await first.says("worker takes messages")
        job = await jobs.enqueue("steps", steps=40, pause=0.1)
        # All its slots are taken: it sleeps with no message in its hands.
        hanging = [await jobs.enqueue("hangs") for _ in range(3)]
        for one in (job, *hanging):
            await jobs.until(one, lambda row: row.progress is not None)
        first.process.send_signal(signal.SIGSTOP)

        async with worker(database_url, rabbitmq_url) as second:
            await second.says("worker takes messages")
            taken = await jobs.until(job, lambda row: row.attempts == 2, within=90)
            assert taken.state is JobState.RUNNING
            # Both have it in their hands now, and one of them may write.
            first.process.send_signal(signal.SIGCONT)
            await first.says("job lost, its lease went to another worker or will")
            row = await jobs.ended(job)
            for one in hanging:
                await jobs.cancel(one)
                await jobs.ended(one)

        assert (row.state, row.attempts, row.result) == (JobState.SUCCEEDED, 2, {"steps": 40, "attempt": 2})
        effects = await jobs.effects(job)
        assert effects == sorted(effects)
        assert [step for attempt, step in effects if attempt == 2] == list(range(40))
        # The one that slept works on.
        last = await jobs.enqueue("works")
        assert (await jobs.ended(last)).state is JobState.SUCCEEDED
        assert await first.terminate() == 0
