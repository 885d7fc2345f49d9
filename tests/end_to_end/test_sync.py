"""Syncs by workers that are processes: killed in the middle, and two of them at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.actions.requeue_due_jobs import requeue_due_jobs
from service.domain.jobs import JobState
from tests.directory_rig import KEY, ROOT, Upstream
from tests.service_rig import clean_broker, running_service
from tests.sync_rig import Syncs, counts, open_syncs

MEMBERS = 3000


@pytest.fixture
async def syncs(database_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Syncs]:
    monkeypatch.setenv("ROLLCALL_SECRET_DIRECTORY", KEY)
    monkeypatch.setenv("ALLOW_NETWORKS", "127.0.0.0/8")
    upstream.reset(MEMBERS)
    async with open_syncs(database_url, upstream, page_size=500) as syncs:
        yield syncs


@asynccontextmanager
async def worker(database_url: str, rabbitmq_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.sync_rig",
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url, "RABBITMQ_URL": rabbitmq_url},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(syncs: Syncs, sql: str, *given: object, within: float = 60) -> None:
    async with asyncio.timeout(within):
        while not await syncs.fetch(sql, *given):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "when", ["select from sync_pages", "select from member_events where id > 700"], ids=["reading", "applying"]
)
async def test_killed_in_the_middle_another_worker_comes_to_the_same_end_without_an_event_twice(
    syncs: Syncs, database_url: str, rabbitmq_url: str, when: str
) -> None:
    async with clean_broker(rabbitmq_url), running_service(database_url, rabbitmq_url, "relay"):
        async with worker(database_url, rabbitmq_url) as first:
            job = await syncs.request()
            await until(syncs, when + " limit 1")
            first.send_signal(signal.SIGKILL)
            await first.wait()
        row = await syncs.job(job)
        assert row.state is JobState.RUNNING
        async with worker(database_url, rabbitmq_url):
            await until(syncs, "select from jobs where id = $1 and finished_at is not null", job, within=90)
        row = await syncs.job(job)
        assert (row.state, row.attempts) == (JobState.SUCCEEDED, 2)
        assert counts(await syncs.log(job)) == {"added": MEMBERS}
        assert len(await syncs.live()) == MEMBERS
        ((events, members, versions),) = await syncs.fetch(
            "select count(*), count(distinct member_id), sum(version) from member_events"
        )
        assert (events, members, versions) == (MEMBERS, MEMBERS, MEMBERS)
        assert await syncs.leftovers() == (0, 0)


async def test_of_two_workers_one_runs_a_sync(syncs: Syncs, database_url: str, rabbitmq_url: str) -> None:
    async with (
        clean_broker(rabbitmq_url),
        running_service(database_url, rabbitmq_url, "relay"),
        worker(database_url, rabbitmq_url),
        worker(database_url, rabbitmq_url),
    ):
        job = await syncs.request()
        # Told of more than once, it still is one job.
        async with syncs.database.transaction() as tx:
            await tx.execute("update jobs set resend_at = now() where state = 'queued'")
        await requeue_due_jobs(syncs.database)
        await until(syncs, "select from jobs where id = $1 and finished_at is not null", job, within=90)
        row = await syncs.job(job)
        assert (row.state, row.attempts) == (JobState.SUCCEEDED, 1)
        assert counts(await syncs.log(job)) == {"added": MEMBERS}
