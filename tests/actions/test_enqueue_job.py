from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from contracts.job_requested import JobRequestedV1
from service.actions.enqueue_job import AlreadyRunning, Enqueued, enqueue_job
from service.domain.errors import UnfitData
from service.domain.jobs import JobState
from service.telemetry.handling import Handling, handled
from service.telemetry.traced import Traced
from tests.jobs_rig import Jobs, open_jobs

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SLOT = datetime(2026, 11, 22, 3, tzinfo=UTC)


@pytest.fixture
async def jobs(module_database_url: str) -> AsyncIterator[Jobs]:
    async with open_jobs(module_database_url) as jobs:
        await jobs.fetch("truncate outbox")
        yield jobs


async def test_a_job_is_a_row_and_a_message_that_names_it(jobs: Jobs) -> None:
    subject = uuid4()
    enqueued = await jobs.try_enqueue("directory_sync", subject, parameters={"mode": "full"}, correlation_id="run-1")

    assert isinstance(enqueued, Enqueued)
    row = await jobs.row(enqueued.job_id)
    assert (row.state, row.attempts, row.subject_id, row.parameters) == (JobState.QUEUED, 0, subject, {"mode": "full"})
    assert (row.requested_by, row.correlation_id, row.next_attempt_at) == ("tests", "run-1", None)
    (message,) = await jobs.messages()
    assert (message["order_key"], message["routing_key"], message["type"]) == (row.id, "job.directory_sync", "JOB_DIRECTORY_SYNC")
    assert message["headers"]["ce-type"] == "JOB_DIRECTORY_SYNC"
    body = JobRequestedV1.from_json(message["body"])
    assert (body.job_id, body.kind, body.company_id, body.subject_id) == (row.id, "directory_sync", jobs.company, subject)
    # What it is to do stands in the row, and nowhere else.
    assert "mode" not in json.loads(message["body"])


async def test_the_run_belongs_to_what_asked_for_it(jobs: Jobs) -> None:
    with handled(Handling("request-7", Traced(TRACEPARENT))):
        enqueued = await jobs.try_enqueue("works")

    row = await jobs.row(enqueued.job_id)
    assert (row.correlation_id, row.traceparent) == ("request-7", TRACEPARENT)
    (message,) = await jobs.messages()
    assert (message["correlation_id"], message["headers"]["traceparent"]) == ("request-7", TRACEPARENT)


async def test_without_a_request_around_it_the_run_is_known_by_the_job(jobs: Jobs) -> None:
    row = await jobs.row(await jobs.enqueue("works"))

    assert (row.correlation_id, row.traceparent) == (str(row.id), None)


async def test_a_transaction_that_is_rolled_back_leaves_neither_row_nor_message(jobs: Jobs) -> None:
    subject = uuid4()

    async def changes_its_mind() -> None:
        async with jobs.database.transaction() as tx:
            await enqueue_job(tx, kind="works", company_id=jobs.company, subject_id=subject, requested_by="tests")
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        await changes_its_mind()

    assert await jobs.fetch("select id from jobs where subject_id = $1", subject) == []
    assert await jobs.messages() == []
    assert isinstance(await jobs.try_enqueue("works", subject), Enqueued)


async def test_of_twenty_that_ask_at_once_one_is_told_yes_and_the_others_of_that_one(jobs: Jobs) -> None:
    subject = uuid4()
    answers = await asyncio.gather(*(jobs.try_enqueue("works", subject) for _ in range(20)))

    (enqueued,) = [answer for answer in answers if isinstance(answer, Enqueued)]
    assert [answer for answer in answers if answer != enqueued] == [AlreadyRunning(enqueued.job_id)] * 19
    assert len(await jobs.messages()) == 1


async def test_who_waits_for_an_enqueuer_that_rolls_back_is_told_yes(jobs: Jobs) -> None:
    subject, asked = uuid4(), asyncio.Event()

    async def first() -> None:
        async with jobs.database.transaction() as tx:
            await enqueue_job(tx, kind="works", company_id=jobs.company, subject_id=subject, requested_by="tests")
            asked.set()
            waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            while not (await jobs.fetch(waiting))[0][0]:
                await asyncio.sleep(0.01)
            raise RuntimeError("changed my mind")

    failing = asyncio.create_task(first())
    await asked.wait()
    answer = await jobs.try_enqueue("works", subject)

    with pytest.raises(RuntimeError, match="changed my mind"):
        await failing
    assert isinstance(answer, Enqueued)
    assert len(await jobs.messages()) == 1


@pytest.mark.parametrize("of_subject", [True, False], ids=["subject", "whole installation"])
async def test_other_kinds_other_subjects_and_ended_ones_are_not_in_the_way(jobs: Jobs, *, of_subject: bool) -> None:
    subject = uuid4() if of_subject else None
    kind = f"kind_{uuid4().hex[:8]}"

    async def ask(other: str = kind) -> Enqueued | AlreadyRunning:
        async with jobs.database.transaction() as tx:
            return await enqueue_job(tx, kind=other, company_id=None, subject_id=subject, requested_by="tests")

    first = await ask()
    assert await ask() == AlreadyRunning(first.job_id)
    assert isinstance(await ask(f"{kind}_too"), Enqueued)
    assert isinstance(await jobs.try_enqueue(kind), Enqueued)

    await jobs.cancel(first.job_id)
    assert isinstance(await ask(), Enqueued)


async def test_a_slot_has_one_job_for_ever(jobs: Jobs) -> None:
    schedule = uuid4()
    first = await jobs.try_enqueue("works", schedule_id=schedule, slot=SLOT)
    await jobs.cancel(first.job_id)

    assert await jobs.try_enqueue("works", schedule_id=schedule, slot=SLOT) == AlreadyRunning(first.job_id)
    assert isinstance(await jobs.try_enqueue("works", schedule_id=schedule, slot=SLOT.replace(hour=4)), Enqueued)
    assert isinstance(await jobs.try_enqueue("works", schedule_id=uuid4(), slot=SLOT), Enqueued)


async def test_what_is_no_kind_is_refused_before_anything_is_written(jobs: Jobs) -> None:
    with pytest.raises(ValueError, match="a job kind is"):
        await jobs.try_enqueue("directory.sync")

    assert await jobs.messages() == []


async def test_parameters_that_cannot_be_stored_are_refused(jobs: Jobs) -> None:
    with pytest.raises(UnfitData):
        await jobs.enqueue("works", name="a\x00b")

    assert await jobs.messages() == []
