"""What the tests of jobs stand on: kinds of their own, jobs enqueued and looked at, and workers in this process or in others.

`python -m tests.jobs_rig` is a worker of these kinds with short leases.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from pydantic import SecretStr

from service.actions.cancel_job import cancel_job
from service.actions.enqueue_job import AlreadyRunning, Enqueued, enqueue_job
from service.actions.run_job import JobOptions, claim_job, run_job
from service.actions.running_job import JobKind, JobKinds, RunningJob
from service.domain.errors import Park, SourceUnavailable, Unavailable
from service.domain.jobs import Cancellation, JobId, JobResult, JobState
from service.domain.member import CompanyId
from service.settings import Settings, load_settings
from service.store.companies import insert_company
from service.store.database import Database
from service.store.jobs import JobRow, find_job
from service.telemetry.logs import configure_logs
from service.telemetry.tracing import NO_TRACING, Tracing
from service.wiring.worker import Worker

# A test waits for what a lease of seconds would take minutes of.
QUICK: Final = JobOptions(
    lease=timedelta(seconds=2),
    beat=timedelta(seconds=0.3),
    look=timedelta(seconds=0.05),
    stop_within=timedelta(seconds=0.3),
    end_within=timedelta(seconds=1),
)
# Long enough for what does not end by its lease, however slow the machine is.
CALM: Final = replace(QUICK, lease=timedelta(seconds=30))
EFFECTS: Final = (
    "create table if not exists job_effects (job uuid, attempt integer, step integer, done_at timestamptz default now())"
)


async def ends(job: RunningJob) -> JobResult:
    """In the state of its parameters."""
    given = dict(job.parameters)
    match JobState(given["state"]):
        case JobState.SUCCEEDED:
            return JobResult.succeeded(given)
        case JobState.PARTIAL:
            return JobResult.partial(given)
        case JobState.QUARANTINED:
            return JobResult.quarantined(given)
        case state:
            assert state is JobState.FAILED
            return JobResult.failed("cannot be done", given)


async def fails(job: RunningJob) -> JobResult:
    """For the first attempts, with an error of each family."""
    if job.attempt > job.parameters.get("times", 1000):
        return JobResult.succeeded({"attempt": job.attempt})
    match job.parameters["with"]:
        case "source":
            after = job.parameters.get("retry_after")
            raise SourceUnavailable("the directory answers 503", None if after is None else timedelta(seconds=after))
        case "park":
            raise Park("the directory answers no JSON")
        case "away":
            raise Unavailable("the database does not answer")
        case _:
            raise RuntimeError("010101-1234 is not a number")


async def hangs(job: RunningJob) -> JobResult:
    """Without an end."""
    await job.progress(phase="hangs")
    await asyncio.Event().wait()
    raise AssertionError


@dataclass(frozen=True, slots=True)
class Effective:
    """Kinds that leave a row for each step, in a transaction that commits only while the job is theirs."""

    database: Database

    async def works(self, job: RunningJob) -> JobResult:
        """One step."""
        await self._effect(job, 0)
        return JobResult.succeeded({"attempt": job.attempt})

    async def steps(self, job: RunningJob) -> JobResult:
        """So many; in the first attempt the process is killed after the step `dies_at`."""
        for step in range(job.parameters["steps"]):
            await self._effect(job, step)
            await job.progress(steps=step + 1)
            if job.attempt == 1 and step == job.parameters.get("dies_at"):
                os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.sleep(job.parameters.get("pause", 0))
        return JobResult.succeeded({"steps": job.parameters["steps"], "attempt": job.attempt})

    async def _effect(self, job: RunningJob, step: int) -> None:
        async with self.database.transaction() as tx:
            await job.hold(tx)
            await tx.execute("insert into job_effects (job, attempt, step) values ($1, $2, $3)", job.id, job.attempt, step)


def kinds(_: Settings | None, database: Database) -> JobKinds:
    """Kinds of job whose parameters say what becomes of them."""
    effective = Effective(database)
    return {
        "works": JobKind(effective.works),
        "steps": JobKind(effective.steps),
        "ends": JobKind(ends),
        "fails": JobKind(fails),
        "hangs": JobKind(hangs),
        "brief": JobKind(hangs, longest=timedelta(seconds=0.3)),
    }


class Jobs:
    """Jobs of one company in a real database."""

    def __init__(self, database: Database, company: CompanyId) -> None:
        self.database, self.company = database, company
        self.kinds = kinds(None, database)

    async def try_enqueue(self, kind: str, subject: UUID | None = None, /, **given: Any) -> Enqueued | AlreadyRunning:
        async with self.database.transaction() as tx:
            return await enqueue_job(
                tx, kind=kind, company_id=self.company, subject_id=subject or uuid4(), **{"requested_by": "tests", **given}
            )

    async def enqueue(self, kind: str, /, **parameters: Any) -> JobId:
        enqueued = await self.try_enqueue(kind, parameters=parameters)
        assert isinstance(enqueued, Enqueued)
        return enqueued.job_id

    async def row(self, job: JobId) -> JobRow:
        async with self.database.transaction() as tx:
            found = await find_job(tx, job)
        assert found is not None
        return found

    async def cancel(self, job: JobId) -> Cancellation | None:
        async with self.database.transaction() as tx:
            return await cancel_job(tx, job, None, "tests")

    async def until(self, job: JobId, condition: Callable[[JobRow], bool], *, within: float = 60) -> JobRow:
        row = await self.row(job)
        try:
            async with asyncio.timeout(within):
                while not condition(row):
                    await asyncio.sleep(0.02)
                    row = await self.row(job)
        except TimeoutError:
            raise AssertionError(row) from None
        return row

    async def ended(self, job: JobId, *, within: float = 60) -> JobRow:
        return await self.until(job, lambda row: row.finished_at is not None, within=within)

    async def effects(self, job: JobId) -> list[tuple[int, int]]:
        """(attempt, step) in the order in which they were done."""
        return [
            (row["attempt"], row["step"])
            for row in await self.fetch("select attempt, step from job_effects where job = $1 order by done_at", job)
        ]

    async def fetch(self, sql: str, *given: Any) -> list[Any]:
        async with self.database.transaction() as tx:
            return list(await tx.fetch(sql, *given))

    async def messages(self) -> list[Mapping[str, Any]]:
        """What waits in the outbox."""
        return await self.fetch("select order_key, routing_key, type, headers, body, correlation_id from outbox order by id")

    async def let_time_pass(self, job: JobId) -> datetime | None:
        """Let the job's lease, its retry or its message be over; answers when it would have been."""
        rows = await self.fetch("select coalesce(lease_expires_at, next_attempt_at, resend_at) as due from jobs where id = $1", job)
        await self.fetch(
            """
            update jobs set
                lease_expires_at = lease_expires_at - (lease_expires_at - clock_timestamp()),
                next_attempt_at = next_attempt_at - (next_attempt_at - clock_timestamp()),
                resend_at = resend_at - (resend_at - clock_timestamp())
            where id = $1
            """,
            job,
        )
        due: datetime | None = rows[0]["due"]
        return due


async def claim(jobs: Jobs, job: JobId, lease: timedelta = CALM.lease) -> RunningJob:
    claimed = await claim_job(jobs.database, job, uuid4(), lease)
    assert claimed is not None
    return claimed


async def run(jobs: Jobs, job: JobId, options: JobOptions = CALM, **given: Any) -> JobState | None:
    claimed = await claim(jobs, job, options.lease)
    return await run_job(jobs.database, claimed, jobs.kinds[claimed.kind], options=options, **{"jitter": lambda: 0.5, **given})


@asynccontextmanager
async def open_jobs(url: str, *, size: int = 12) -> AsyncIterator[Jobs]:
    database = await Database.connect(url, name="tests", size=size)
    try:
        async with database.transaction() as tx:
            await tx.execute(EFFECTS)
            company = await insert_company(tx, f"company {uuid4()}", "UTC", None)
        yield Jobs(database, company.id)
    finally:
        await database.close()


def settings(database_url: str, rabbitmq_url: str) -> Settings:
    return Settings(database_url=SecretStr(database_url), rabbitmq_url=SecretStr(rabbitmq_url), port=0)


@asynccontextmanager
async def running_workers(
    database_url: str, rabbitmq_url: str, count: int = 1, *, options: JobOptions = QUICK, tracing: Tracing = NO_TRACING
) -> AsyncIterator[list[Worker]]:
    """Workers of these kinds in this process, drained in the end."""
    async with AsyncExitStack() as stack:
        workers = []
        for _ in range(count):
            worker = Worker(settings(database_url, rabbitmq_url), tracing=tracing, find_kinds=kinds, job_options=options)
            stack.push_async_callback(worker.stop)
            async with asyncio.timeout(60):
                await worker.start()
            workers.append(worker)
        yield workers


async def main() -> None:
    worker = Worker(load_settings(), find_kinds=kinds, job_options=QUICK)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await worker.start()
    await stop.wait()
    await worker.stop()


if __name__ == "__main__":
    configure_logs("json", "info")
    asyncio.run(main())
