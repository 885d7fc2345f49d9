from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.review_job import NotQuarantined, Rejected, approve_job, reject_job
from service.actions.run_job import claim_job, run_job
from service.domain.jobs import JobId, JobState
from service.domain.member import CompanyId
from tests.jobs_rig import QUICK, Jobs, open_jobs


@pytest.fixture
async def jobs(module_database_url: str) -> AsyncIterator[Jobs]:
    async with open_jobs(module_database_url) as jobs:
        await jobs.fetch("truncate outbox")
        yield jobs


async def quarantined(jobs: Jobs) -> JobId:
    job = await jobs.enqueue("ends", state="quarantined", removals=900)
    claimed = await claim_job(jobs.database, job, uuid4(), timedelta(seconds=30))
    assert claimed is not None
    assert await run_job(jobs.database, claimed, jobs.kinds["ends"], options=QUICK) is JobState.QUARANTINED
    return job


async def test_an_approved_job_starts_anew_with_what_was_approved(jobs: Jobs) -> None:
    job = await quarantined(jobs)

    async with jobs.database.transaction() as tx:
        assert await approve_job(tx, job, jobs.company, {"approved": 900}) == Enqueued(job)

    row = await jobs.row(job)
    assert (row.state, row.attempts, row.result, row.finished_at) == (JobState.QUEUED, 0, None, None)
    assert row.parameters == {"state": "quarantined", "removals": 900, "approved": 900}
    assert len(await jobs.messages()) == 2
    claimed = await claim_job(jobs.database, job, uuid4(), timedelta(seconds=30))
    assert claimed is not None
    assert claimed.parameters["approved"] == 900


async def test_a_job_that_runs_meanwhile_is_in_the_way_of_an_approval(jobs: Jobs) -> None:
    job = await quarantined(jobs)
    other = await jobs.try_enqueue("ends", (await jobs.row(job)).subject_id)
    assert isinstance(other, Enqueued)

    async with jobs.database.transaction() as tx:
        assert await approve_job(tx, job, jobs.company, {}) == AlreadyRunning(other.job_id)

    assert (await jobs.row(job)).state is JobState.QUARANTINED


async def test_a_rejected_job_is_cancelled_and_keeps_its_list(jobs: Jobs) -> None:
    job = await quarantined(jobs)

    async with jobs.database.transaction() as tx:
        assert await reject_job(tx, job, jobs.company, "rejected by key:1") == Rejected()

    row = await jobs.row(job)
    assert (row.state, row.error) == (JobState.CANCELLED, "rejected by key:1")
    assert row.result == {"state": "quarantined", "removals": 900}


async def test_there_is_nothing_to_decide_about_any_other_job(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")

    async with jobs.database.transaction() as tx:
        assert await approve_job(tx, job, jobs.company, {}) == NotQuarantined(JobState.QUEUED)
        assert await reject_job(tx, job, jobs.company, "no") == NotQuarantined(JobState.QUEUED)


async def test_a_job_of_another_company_is_not_there(jobs: Jobs) -> None:
    job = await quarantined(jobs)

    async with jobs.database.transaction() as tx:
        assert await approve_job(tx, job, CompanyId(uuid4()), {}) is None
        assert await reject_job(tx, job, CompanyId(uuid4()), "no") is None
    assert (await jobs.row(job)).state is JobState.QUARANTINED
