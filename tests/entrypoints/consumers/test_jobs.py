"""The job consumer on a real broker: each job once, as many as there are slots, and what becomes of them when a worker ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from contracts.channels import JOB_REQUESTED, JOBS, job_routing_key
from contracts.envelope import Envelope
from service.clients.inbound import InboundPublisher
from service.domain.jobs import JobId, JobState
from tests.fault_proxy import FaultProxy
from tests.jobs_rig import QUICK, Jobs, open_jobs, running_workers
from tests.relay_rig import eventually, running_relay
from tests.service_rig import Upstream, books, clean_broker, depth, publish
from tests.telemetry.span_rig import parent_id, span_id, trace_id, tracing_in_memory
from tests.trace_rig import new_traceparent

# Leases that outlast the test: whatever is taken over here was given back.
CALM = replace(QUICK, lease=timedelta(minutes=5))
SLOTS = 4


@pytest.fixture
async def jobs(database_url: str) -> AsyncIterator[Jobs]:
    async with open_jobs(database_url) as jobs:
        yield jobs


@pytest.fixture
async def channel(rabbitmq_url: str) -> AsyncIterator[Any]:
    async with clean_broker(rabbitmq_url) as channel:
        yield channel


@pytest.fixture
async def relay(database_url: str, rabbitmq_url: str, channel: Any) -> AsyncIterator[None]:
    async with running_relay(database_url, rabbitmq_url):
        yield


@asynccontextmanager
async def telling(rabbitmq_url: str) -> AsyncIterator[Any]:
    """Publishes that a job is queued, as the relay would; whatever its row says."""
    async with InboundPublisher.connected(rabbitmq_url) as publisher:

        async def tell(job: object, kind: str, /, **body: str) -> None:
            envelope = Envelope(id=str(uuid4()), source="tests", type=JOB_REQUESTED.type_of(kind))
            text = json.dumps({"jobId": str(job), "kind": kind, "companyId": None, "subjectId": None, **body})
            await publisher.publish(JOB_REQUESTED, envelope, text.encode(), routing_key=job_routing_key(kind))

        yield tell


async def hanging(jobs: Jobs, count: int = SLOTS) -> list[JobId]:
    """So many jobs that hang, all of them running."""
    ids = [await jobs.enqueue("hangs") for _ in range(count)]
    for job in ids:
        await jobs.until(job, lambda row: row.progress is not None)
    return ids


@pytest.mark.usefixtures("channel")
async def test_two_deliveries_of_one_job_at_once_run_it_once(jobs: Jobs, database_url: str, rabbitmq_url: str) -> None:
    job = await jobs.enqueue("works")
    async with running_workers(database_url, rabbitmq_url, 2), telling(rabbitmq_url) as tell:
        await asyncio.gather(*(tell(job, "works") for _ in range(20)))
        await jobs.ended(job)
        # After its end too.
        await asyncio.gather(*(tell(job, "works") for _ in range(20)))
        last = await jobs.enqueue("works")
        await tell(last, "works")
        await jobs.ended(last)

    assert await jobs.effects(job) == [(1, 0)]
    assert (await jobs.row(job)).attempts == 1


@pytest.mark.usefixtures("relay")
async def test_ten_workers_run_two_hundred_jobs_each_once(jobs: Jobs, channel: Any, database_url: str, rabbitmq_url: str) -> None:
    async with running_workers(database_url, rabbitmq_url, 10):
        ids = [await jobs.enqueue("works") for _ in range(200)]
        for job in ids:
            await jobs.ended(job, within=60)

    effects = await jobs.fetch("select job, count(*) as times from job_effects group by job")
    assert {row["job"]: row["times"] for row in effects} == dict.fromkeys(ids, 1)
    assert await jobs.fetch("select id from jobs where state <> 'succeeded' or attempts <> 1") == []
    assert [await depth(channel, queue.name) for queue in JOBS.queues] == [0, 0, 0]


@pytest.mark.usefixtures("relay")
async def test_a_worker_whose_slots_are_taken_leaves_messages_to_others_and_takes_them_again(
    jobs: Jobs, channel: Any, database_url: str, rabbitmq_url: str
) -> None:
    async with running_workers(database_url, rabbitmq_url, 1, options=CALM) as (worker,):
        first, *others = await hanging(jobs)
        waiting = [await jobs.enqueue("works") for _ in range(3)]
        # In the queue, in nobody's hands.
        await eventually(lambda: _has(channel, 3), within=20)
        assert await worker.problems() == {}

        await jobs.cancel(first)

        for job in waiting:
            assert (await jobs.ended(job)).state is JobState.SUCCEEDED
        for job in others:
            assert (await jobs.row(job)).state is JobState.RUNNING
        another = await jobs.enqueue("hangs")
        await jobs.until(another, lambda row: row.progress is not None)
        last = await jobs.enqueue("works")
        await eventually(lambda: _has(channel, 1), within=20)

        async with running_workers(database_url, rabbitmq_url, 1, options=CALM):
            await jobs.ended(last)


async def _has(channel: Any, messages: int) -> bool:
    return await depth(channel, JOBS.main.name) == messages


@pytest.mark.usefixtures("relay", "channel")
async def test_changes_of_members_flow_while_all_slots_hang_and_jobs_fail(jobs: Jobs, database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    async with (
        running_workers(database_url, rabbitmq_url, 1, options=CALM) as (worker,),
        InboundPublisher.connected(rabbitmq_url) as publisher,
    ):
        failing = await jobs.enqueue("fails", **{"with": "a defect"})
        await jobs.until(failing, lambda row: row.error is not None)
        await hanging(jobs)
        await publish(publisher, [upstream.upsert(str(number), 1) for number in range(50)])

        await eventually(lambda: _taken_in(database_url, 50), within=20)
        assert await worker.problems() == {}


async def _taken_in(database_url: str, changes: int) -> bool:
    return (await books(database_url)).taken_in == changes


@pytest.mark.usefixtures("relay", "channel")
async def test_a_worker_that_stops_gives_its_jobs_to_another_at_once(jobs: Jobs, database_url: str, rabbitmq_url: str) -> None:
    async with running_workers(database_url, rabbitmq_url, 1, options=CALM) as (first,):
        steps = [await jobs.enqueue("steps", steps=20, pause=0.1) for _ in range(3)]
        for job in steps:
            await jobs.until(job, lambda row: row.progress is not None)
        (hangs,) = await hanging(jobs, 1)
        async with running_workers(database_url, rabbitmq_url, 1, options=CALM):
            await first.stop()
            for job in steps:
                row = await jobs.ended(job)
                # The interrupted attempt does not count, and nobody waited for a lease of minutes.
                assert (row.state, row.attempts) == (JobState.SUCCEEDED, 1)
                assert row.result == {"steps": 20, "attempt": 1}
            assert (await jobs.row(hangs)).state is JobState.RUNNING
            await jobs.cancel(hangs)
            await jobs.ended(hangs)


async def test_a_kind_that_this_release_does_not_know_waits_for_one_that_does(
    jobs: Jobs, channel: Any, database_url: str, rabbitmq_url: str
) -> None:
    job = await jobs.enqueue("of_tomorrow")
    async with running_workers(database_url, rabbitmq_url), telling(rabbitmq_url) as tell:
        await tell(job, "of_tomorrow")
        retry = await channel.get_queue(JOBS.retry.name)
        async with asyncio.timeout(20):
            while (message := await retry.get(fail=False)) is None:
                await asyncio.sleep(0.05)
        await message.ack()

    assert "no job of the kind of_tomorrow" in str(message.headers["x-rollcall-first-error"])
    assert (await jobs.row(job)).state is JobState.QUEUED


async def test_what_is_no_job_is_parked(channel: Any, database_url: str, rabbitmq_url: str) -> None:
    async with running_workers(database_url, rabbitmq_url), telling(rabbitmq_url) as tell:
        await tell("none", "works")
        await tell(uuid4(), "works", kind="hangs")
        parked = await channel.get_queue(JOBS.parked.name)
        reasons = []
        async with asyncio.timeout(20):
            while len(reasons) < 2:
                if (message := await parked.get(fail=False)) is None:
                    await asyncio.sleep(0.05)
                    continue
                await message.ack()
                reasons.append(str(message.headers["x-rollcall-reason"]))

    assert sorted(reasons) == [
        "ce-type must be JOB_HANGS here",
        "jobId: has a form or a character that the contract does not allow",
    ]


@pytest.mark.usefixtures("channel")
async def test_a_job_that_is_gone_is_ignored(jobs: Jobs, database_url: str, rabbitmq_url: str) -> None:
    async with running_workers(database_url, rabbitmq_url) as (worker,), telling(rabbitmq_url) as tell:
        await tell(uuid4(), "works")
        job = await jobs.enqueue("works")
        await tell(job, "works")

        assert (await jobs.ended(job)).state is JobState.SUCCEEDED
        assert await worker.problems() == {}


@pytest.mark.usefixtures("relay", "channel")
async def test_a_connection_that_is_cut_while_all_slots_are_taken_costs_no_job(
    jobs: Jobs, database_url: str, rabbitmq_url: str
) -> None:
    async with FaultProxy.before(rabbitmq_url) as proxy, running_workers(database_url, proxy.url, 1, options=CALM) as (worker,):
        ids = await hanging(jobs)
        waiting = [await jobs.enqueue("works") for _ in range(5)]
        proxy.cut()
        for job in ids[:2]:
            await jobs.cancel(job)

        for job in waiting:
            assert (await jobs.ended(job, within=60)).state is JobState.SUCCEEDED
        await eventually(lambda: _well(worker), within=30)
        for job in ids[2:]:
            assert (await jobs.row(job)).state is JobState.RUNNING
    assert await jobs.fetch("select job from job_effects group by job having count(*) > 1") == []


async def _well(worker: Any) -> bool:
    return not await worker.problems()


@pytest.mark.usefixtures("channel")
async def test_a_database_that_is_away_costs_no_job(jobs: Jobs, database_url: str, rabbitmq_url: str) -> None:
    job = await jobs.enqueue("works")
    async with (
        FaultProxy.before(database_url) as proxy,
        running_workers(proxy.url, rabbitmq_url, 1) as (worker,),
        telling(rabbitmq_url) as tell,
    ):
        proxy.refusing = True
        proxy.cut()
        await tell(job, "works")
        await eventually(lambda: _ill(worker), within=20)
        proxy.refusing = False

        assert (await jobs.ended(job)).state is JobState.SUCCEEDED


async def _ill(worker: Any) -> bool:
    return bool(await worker.problems())


@pytest.mark.usefixtures("relay", "channel")
async def test_the_run_stays_in_the_trace_of_who_asked_for_it(jobs: Jobs, database_url: str, rabbitmq_url: str) -> None:
    traceparent = new_traceparent()
    asked_in, asked_by = traceparent.split("-")[1:3]
    with tracing_in_memory() as (tracing, spans):
        async with running_workers(database_url, rabbitmq_url, tracing=tracing):
            asked = await jobs.try_enqueue("fails", parameters={"with": "source", "times": 1}, traceparent=traceparent)
            await jobs.until(asked.job_id, lambda row: row.next_attempt_at is not None)
            await jobs.let_time_pass(asked.job_id)
            assert (await jobs.ended(asked.job_id)).state is JobState.SUCCEEDED

        messages, attempts = spans.named("process rollcall.jobs"), spans.named("job fails")
    assert {trace_id(span) for span in (*messages, *attempts)} == {asked_in}
    assert [parent_id(span) for span in messages] == [asked_by, asked_by]
    assert [parent_id(span) for span in attempts] == [span_id(span) for span in messages]
    assert [span.parent.is_remote for span in [*messages, *attempts] if span.parent is not None] == [True, True, False, False]
    told = [dict(span.attributes or {}) for span in attempts]
    assert [(span["rollcall.outcome"], span["rollcall.job.attempt"]) for span in told] == [("requeued", 1), ("succeeded", 2)]
