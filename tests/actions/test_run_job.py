"""What becomes of a job: its results, its retries, and what is told of it."""

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
from service.actions.run_job import claim_job, run_job
from service.actions.running_job import JobKind, RunningJob
from service.domain.jobs import JobId, JobResult, JobState
from service.store.database import Database
from service.telemetry.handling import handling
from service.telemetry.metric_names import JOB_DURATION, Stage
from service.telemetry.metrics import Metrics
from tests.jobs_rig import CALM, Jobs, claim, open_jobs, run


@pytest.fixture
async def jobs(module_database_url: str) -> AsyncIterator[Jobs]:
    async with open_jobs(module_database_url) as jobs:
        await jobs.fetch("truncate outbox, jobs, job_effects cascade")
        yield jobs


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

    claims = await asyncio.gather(*(claim_job(jobs.database, job, uuid4(), CALM.lease) for _ in range(10)))

    assert len([claimed for claimed in claims if claimed is not None]) == 1
    assert (await jobs.row(job)).attempts == 1


async def test_what_runs_has_ended_or_does_not_exist_cannot_be_claimed(jobs: Jobs) -> None:
    job = await jobs.enqueue("works")
    await claim(jobs, job)
    ended = await jobs.enqueue("works")
    await run(jobs, ended)

    for other in (job, ended, JobId(uuid4())):
        assert await claim_job(jobs.database, other, uuid4(), CALM.lease) is None


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
        assert await claim_job(jobs.database, job, uuid4(), CALM.lease) is None
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
