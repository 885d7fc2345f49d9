from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from service.actions.cancel_job import cancel_job
from service.actions.run_job import claim_job
from service.domain.jobs import CancelAsked, Ended, JobId, JobState, Transition
from service.domain.member import CompanyId
from tests.jobs_rig import Jobs, open_jobs

LEASE = timedelta(seconds=30)


@pytest.fixture
async def jobs(module_database_url: str) -> AsyncIterator[Jobs]:
    async with open_jobs(module_database_url) as jobs:
        yield jobs


async def test_a_queued_job_is_cancelled_at_once_and_its_message_begins_nothing(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")

    assert isinstance(await jobs.cancel(job), Transition)

    row = await jobs.row(job)
    assert (row.state, row.attempts) == (JobState.CANCELLED, 0)
    assert row.cancel_requested_at is not None
    assert await claim_job(jobs.database, job, uuid4(), LEASE) is None


async def test_a_running_job_is_asked_and_the_first_request_counts(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")
    await claim_job(jobs.database, job, uuid4(), LEASE)

    assert await jobs.cancel(job) == CancelAsked()
    asked_at = (await jobs.row(job)).cancel_requested_at
    assert await jobs.cancel(job) == CancelAsked()

    row = await jobs.row(job)
    assert (row.state, row.cancel_requested_at) == (JobState.RUNNING, asked_at)
    assert asked_at is not None


async def test_what_has_ended_says_how(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")
    await jobs.cancel(job)

    assert await jobs.cancel(job) == Ended(JobState.CANCELLED)


async def test_a_job_of_another_company_is_not_there(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")

    async with jobs.database.transaction() as tx:
        assert await cancel_job(tx, job, CompanyId(uuid4()), "tests") is None
        assert await cancel_job(tx, JobId(uuid4()), jobs.company, "tests") is None
        assert isinstance(await cancel_job(tx, job, jobs.company, "tests"), Transition)
