"""`python -m tests.benchmarks.drift`: a million members compared with their audit, a sample of them and all of them.

The job's own function in this process. While all are compared somebody adds and removes others, and every key is counted: of those
that stay each must be compared once. Beside it one bare SQL statement that compares all rows with the newest of their audit.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID, uuid4

import asyncpg
import typer
import uvloop
from rich.console import Console

from deploy.local_stack import create_database, drop_database, local_stack
from service.actions.enqueue_job import Enqueued, enqueue_job
from service.actions.read_models.audit import AuditReconciler
from service.actions.reconcile_drift import DRIFT_FULL, DRIFT_SAMPLED, reconcile_drift
from service.actions.run_job import JobOptions, claim_job, run_job
from service.actions.running_job import JobKind, RunningJob
from service.domain.drift import SampleResult
from service.domain.jobs import JobResult
from service.settings import given_urls
from service.store.database import Database
from service.store.jobs import find_job
from service.store.migrate import migrate
from service.telemetry.logs import configure_logs
from tests.benchmarks.sync import ServerTime

__all__ = ["DriftFigures", "Pass", "fill", "measure"]

MEMBERS: Final = 1_000_000
AIM_SECONDS: Final = 2.0
COMPANY: Final = UUID("00000000-0000-0000-0000-000000000001")
# Of those who come and go meanwhile: each step adds so many and removes as many that an earlier step has added.
STEP: Final = 20

# Who stays has an even number, and who comes and goes an odd one, so that these lie everywhere among them.
ID: Final = "('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
ADD_MEMBERS: Final = f"""
insert into members (id, company_id, name, upstream_state, state, version, plan, expires_at)
select {ID}, '{COMPANY}', 'Member ' || n, 'active', 'active', 1, 'basic', timestamptz '2030-01-01T00:00:00Z'
from """
ADD_AUDIT: Final = f"""
insert into member_events (
    member_id, version, company_id, occurred_at, reason_code, new_state, changed_fields, plan, expires_at, before, after, actor,
    correlation_id
)
select {ID}, 1, '{COMPANY}', now(), 'ADMIN', 'active', array[]::text[], 'basic', timestamptz '2030-01-01T00:00:00Z',
    jsonb_build_object(), jsonb_build_object(), 'benchmark', 'benchmark'
from """
FLOOR: Final = """
select count(*) from members m
left join (
    select distinct on (member_id) member_id, version, new_state, plan, starts_at, expires_at
    from member_events order by member_id, version desc
) e on e.member_id = m.id
where (m.version, m.state, m.plan, m.starts_at, m.expires_at)
    is distinct from (e.version, e.new_state, e.plan, e.starts_at, e.expires_at)
"""


@dataclass(frozen=True, slots=True)
class Pass:
    """One run: seconds by the clock and of both CPUs, what it has compared, and by how many mebibytes this process has grown."""

    seconds: float
    cpu: float
    server_cpu: float | None
    compared: int
    out_of_sync: int
    grown_mb: float


@dataclass(frozen=True, slots=True)
class DriftFigures:
    """A sample, all, and all by one bare statement; of the run over all also how often who stayed was compared, and the traffic."""

    members: int
    sampled: Pass
    full: Pass
    floor_seconds: float
    missed: int
    repeated: int
    came_and_went: int


class _Counting(AuditReconciler):
    """The audit's reconciler, which notes how often each of those who stay was compared."""

    def __init__(self, db: Database, members: int) -> None:
        super().__init__(db)
        self.times = bytearray(members)

    async def reconcile_many(self, keys: Sequence[str]) -> Sequence[SampleResult]:
        for key in keys:
            number = int(key[-12:], 16)
            if number % 2 == 0:
                self.times[number // 2] += 1
        return await super().reconcile_many(keys)


async def fill(url: str, members: int) -> None:
    """Members and their audit, all in step."""
    connection = await asyncpg.connect(url)
    await connection.execute(f"insert into companies (id, name) values ('{COMPANY}', 'Company')")
    numbers = f"(select 2 * k as n from generate_series(0, {members - 1}) k) numbers"
    for statement in (ADD_MEMBERS, ADD_AUDIT):
        await connection.execute(statement + numbers)
    await connection.execute("vacuum analyze members, member_events")
    await connection.close()


async def measure(url: str, members: int) -> DriftFigures:
    """A sampled run, one over all while others come and go, and the bare statement; the database must be filled."""
    database = await Database.connect(url, name="benchmark", size=4)
    try:
        sampled = await _run(database, url, DRIFT_SAMPLED, AuditReconciler(database))
        counting = _Counting(database, members)
        async with _coming_and_going(url, members) as steps:
            full = await _run(database, url, DRIFT_FULL, counting)
    finally:
        await database.close()
    missed, once = counting.times.count(0), counting.times.count(1)
    repeated = members - missed - once
    return DriftFigures(members, sampled, full, await _floor(url), missed, repeated, steps[0] * STEP)


async def _run(database: Database, url: str, kind: str, reconciler: AuditReconciler) -> Pass:
    async def run(job: RunningJob) -> JobResult:
        return await reconcile_drift(database, job, (reconciler,), default_grace_days=0)

    options = JobOptions()
    async with database.transaction() as tx:
        asked = await enqueue_job(tx, kind=kind, company_id=None, subject_id=None, requested_by="benchmark")
    if not isinstance(asked, Enqueued) or (claimed := await claim_job(database, asked.job_id, uuid4(), options.lease)) is None:
        raise RuntimeError("somebody else has the job")
    watching = await asyncpg.connect(url)
    server = ServerTime(watching)
    async with _watched_memory() as grown:
        before = await server.read()
        began, cpu = time.perf_counter(), time.process_time()
        await run_job(database, claimed, JobKind(run), options=options)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        after = await server.read()
    await watching.close()
    async with database.transaction() as tx:
        row = await find_job(tx, asked.job_id)
    if row is None or row.state != "succeeded" or row.result is None:
        raise RuntimeError(f"the run failed: {row}")
    found = row.result["readModels"]["audit"]
    served = None if before is None or after is None else after - before
    return Pass(seconds, cpu, served, found["compared"], found["outOfSync"], grown[0])


async def _floor(url: str) -> float:
    connection = await asyncpg.connect(url)
    await connection.execute("vacuum analyze members, member_events")
    began = time.perf_counter()
    differing = await connection.fetchval(FLOOR, timeout=600)
    seconds = time.perf_counter() - began
    await connection.close()
    if differing:
        raise RuntimeError(f"{differing} members are out of step")
    return seconds


@asynccontextmanager
async def _coming_and_going(url: str, members: int) -> AsyncIterator[list[int]]:
    """Others are added and removed all over the key space as long as this is open; how many steps of that there were."""
    connection = await asyncpg.connect(url)
    steps, ends = [0], asyncio.Event()

    async def step(number: int) -> None:
        # By a stride that meets every place before any again.
        odd = [2 * ((number * STEP + k) * 7919 % members) + 1 for k in range(STEP)]
        numbers = f"unnest(array{odd}::bigint[]) numbers (n)"
        async with connection.transaction():
            await connection.execute(ADD_MEMBERS + numbers)
            await connection.execute(ADD_AUDIT + numbers)
        gone = f"select {ID} from {numbers}"
        async with connection.transaction():
            await connection.execute(f"delete from member_events where member_id in ({gone})")
            await connection.execute(f"delete from members where id in ({gone})")

    async def go_on() -> None:
        while not ends.is_set():
            await step(steps[0])
            steps[0] += 1
            await asyncio.sleep(0.02)

    going = asyncio.create_task(go_on())
    try:
        yield steps
    finally:
        ends.set()
        await going
        await connection.close()


@asynccontextmanager
async def _watched_memory() -> AsyncIterator[list[float]]:
    """By how much the process's resident memory has grown at the most, looked at all the time."""
    grown, before = [0.0], _resident_mb()

    async def look() -> None:
        while True:
            grown[0] = max(grown[0], _resident_mb() - before)
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    try:
        yield grown
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kibibytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kibibytes) / 1024


def main(
    members: Annotated[int, typer.Option(min=100, help="How many there are.")] = MEMBERS,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the raw figures.")] = None,
) -> None:
    """Measure on DATABASE_URL's server, or on one started for it."""
    console = Console(highlight=False, width=120)
    configure_logs("console", "critical")
    database_url, rabbitmq_url = given_urls()
    with local_stack(lambda line: console.print(line, style="dim"), database_url=database_url, rabbitmq_url=rabbitmq_url) as stack:
        asyncio.run(migrate(stack.database_url))
        url = create_database(stack.database_url, template=stack.database_url)
        try:
            asyncio.run(fill(url, members))
            found = uvloop.run(measure(url, members))
        finally:
            drop_database(url)
    for line in _told(found):
        console.print(line)
    if json_file is not None:
        figures: dict[str, Any] = asdict(found)
        json_file.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    if found.missed or found.repeated:
        raise typer.Exit(1)


def _told(found: DriftFigures) -> list[str]:
    sampled, full = found.sampled, found.full
    return [
        f"sampled, {sampled.compared:,} of {found.members:,}: {sampled.seconds:.2f} s (aim {AIM_SECONDS:.0f} s), "
        f"{_cpu(sampled)}, +{sampled.grown_mb:.0f} MB",
        f"all, {full.compared:,}: {full.seconds:.1f} s, {full.compared / full.seconds:,.0f} a second, {_cpu(full)}, "
        f"+{full.grown_mb:.0f} MB",
        f"while {found.came_and_went:,} came and went: {found.missed:,} of those who stayed were missed, "
        f"{found.repeated:,} compared again",
        f"one bare statement over all: {found.floor_seconds:.2f} s",
    ]


def _cpu(run: Pass) -> str:
    server = "" if run.server_cpu is None else f" + {run.server_cpu:.2f} s of the server's sessions"
    return f"CPU {run.cpu:.2f} s{server}"


if __name__ == "__main__":
    typer.run(main)
