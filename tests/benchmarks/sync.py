"""`python -m tests.benchmarks.sync`: the sync of a directory, beside a bare COPY with set-based SQL, and beside row by row.

The directory is made up in the process, so that no network is measured. Each contender at each size is a process of its own, whose
memory at its peak is told; its CPU time is without that of the server. Row by row is left out above 10,000 members: it takes hours.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import uuid4

import asyncpg
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from deploy.local_stack import create_database, drop_database, local_stack
from service.actions.enqueue_job import Enqueued
from service.actions.request_sync import request_sync
from service.actions.review_sync import approve_sync
from service.actions.run_job import JobOptions, claim_job, run_job
from service.actions.running_job import JobKind, RunningJob
from service.actions.sync_directory import SyncSetting, sync_directory
from service.clients.directories.source import Health, Page, Record
from service.domain.change import VersionKind
from service.domain.directories.sync_options import SyncOptions
from service.domain.jobs import JobId, JobResult
from service.settings import given_urls
from service.store.companies import insert_company
from service.store.connections import DirectoryRow, insert_directory
from service.store.database import Database
from service.store.jobs import find_job
from service.store.migrate import migrate
from service.wiring.directories import described
from tests.directory_rig import ROOT

SIZES: Final = (1_000, 10_000, 100_000)
MILLION: Final = 1_000_000
MOST_ROW_BY_ROW: Final = 10_000
PAGE: Final = 1000
STEPS: Final = ("initial", "no change", "1% changed", "10% removed")
ROLLCALL, FLOOR, ROW_BY_ROW = "rollcall", "floor", "row by row"
_DIRECTORY: Final = {"baseUrl": "https://members.example.com"}


def person(number: int, changed: bool) -> Record:
    return {
        "id": number,
        "kennitala": f"{number:010}",
        "name": f"Member {number}{' changed' if changed else ''}",
        "email": f"member{number}@example.com",
    }


def population(size: int, step: str) -> Iterator[Record]:
    """What the directory holds in that step: from the third on a hundredth has another name, in the fourth a tenth is gone."""
    late = STEPS.index(step) >= STEPS.index("1% changed")
    for number in range(size):
        if not (step == "10% removed" and number % 10 == 3):
            yield person(number, late and number % 100 == 7)


@dataclass(frozen=True)
class MadeUp:
    """A directory of that many in that step, without a network; its pages do not shift."""

    size: int
    step: str
    supports_since: bool = False
    pages_shift: bool = False

    async def health(self) -> Health:
        return Health(reachable=True, authorised=True, shape=True)

    async def pages(self, since: datetime | None = None) -> AsyncGenerator[Page, None]:
        count = self.size - self.size // 10 if self.step == "10% removed" else self.size
        for number, records in enumerate(paged(population(self.size, self.step)), 1):
            yield Page(records, count, number)


def paged(records: Iterator[Record]) -> Iterator[list[Record]]:
    page: list[Record] = []
    for record in records:
        page.append(record)
        if len(page) == PAGE:
            yield page
            page = []
    yield page


async def rollcall(url: str, size: int) -> AsyncIterator[None]:
    db = await Database.connect(url, name="benchmark", size=8)
    async with db.transaction() as tx:
        company = (await insert_company(tx, "Company", "UTC", None)).id
        fields = ["email", "name", "national_id"]
        connection = (await insert_directory(tx, company, "d", "django", VersionKind.NONE, fields, _DIRECTORY, None)).id
    for step in STEPS:

        @asynccontextmanager
        async def opened(_: DirectoryRow, step: str = step) -> AsyncIterator[MadeUp]:
            yield MadeUp(size, step)

        async def sync(job: RunningJob, opened: Any = opened) -> JobResult:
            setting = SyncSetting(opened=opened, described=described, default_grace_days=0, enabled=True)
            return await sync_directory(db, job, setting)

        async with db.transaction() as tx:
            enqueued = await request_sync(tx, connection, SyncOptions(), requested_by="benchmark", enabled=True)
        if not isinstance(enqueued, Enqueued):
            raise TypeError(enqueued)
        await _run(db, enqueued.job_id, JobKind(sync))
        async with db.transaction() as tx:
            row = await find_job(tx, enqueued.job_id)
        if row is not None and row.state == "quarantined":
            async with db.transaction() as tx:
                await approve_sync(tx, enqueued.job_id, company, "benchmark")
            await _run(db, enqueued.job_id, JobKind(sync))
        async with db.transaction() as tx:
            row = await find_job(tx, enqueued.job_id)
        if row is None or row.state != "succeeded":
            raise RuntimeError(f"{step}: {row}")
        yield
    await db.close()


async def _run(db: Database, job_id: JobId, kind: JobKind) -> None:
    options = JobOptions()
    claimed = await claim_job(db, job_id, uuid4(), options.lease)
    if claimed is None:
        raise RuntimeError("somebody else has the job")
    await run_job(db, claimed, kind, options=options)


COLUMNS: Final = ("external_id", "national_id", "name", "email")


async def floor(url: str, size: int) -> AsyncIterator[None]:
    """No audit, no events, no guard, no errors: what is left is COPY and three statements."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "create table bare (external_id text primary key, national_id text unique, name text, email text, "
        "gone boolean default false);"
        "create unlogged table bare_staging (external_id text, national_id text, name text, email text)"
    )
    for step in STEPS:
        for page in paged(population(size, step)):
            rows = [(str(record["id"]), record["kennitala"], record["name"], record["email"]) for record in page]
            await connection.copy_records_to_table("bare_staging", records=rows, columns=COLUMNS)
        await connection.execute("analyze bare_staging; analyze bare")
        async with connection.transaction():
            await connection.execute(
                "set local enable_nestloop = off;"
                "update bare b set national_id = s.national_id, name = s.name, email = s.email, gone = false from bare_staging s "
                "where s.external_id = b.external_id and (b.national_id, b.name, b.email, b.gone) is distinct from "
                "(s.national_id, s.name, s.email, false);"
                "update bare b set gone = true where not gone and not exists "
                "(select from bare_staging s where s.external_id = b.external_id);"
                "insert into bare select s.* from bare_staging s where not exists "
                "(select from bare b where b.external_id = s.external_id)"
            )
        await connection.execute("truncate bare_staging")
        yield
    await connection.close()


async def row_by_row(url: str, size: int) -> AsyncIterator[None]:
    """A look and a write for each record, a transaction each, and then one for each that is gone: as most scripts do."""
    connection = await asyncpg.connect(url)
    await connection.execute("create table bare (external_id text primary key, national_id text unique, name text, email text)")
    for step in STEPS:
        seen = set()
        for record in population(size, step):
            row = (str(record["id"]), record["kennitala"], record["name"], record["email"])
            seen.add(row[0])
            found = await connection.fetchrow(
                "select external_id, national_id, name, email from bare where external_id = $1", row[0]
            )
            if found is None:
                await connection.execute("insert into bare values ($1, $2, $3, $4)", *row)
            elif tuple(found) != row:
                await connection.execute("update bare set national_id = $2, name = $3, email = $4 where external_id = $1", *row)
        for (key,) in await connection.fetch("select external_id from bare"):
            if key not in seen:
                await connection.execute("delete from bare where external_id = $1", key)
        yield
    await connection.close()


CONTENDERS: Final[dict[str, Callable[[str, int], AsyncIterator[None]]]] = {
    ROLLCALL: rollcall,
    FLOOR: floor,
    ROW_BY_ROW: row_by_row,
}


async def one(name: str, url: str, size: int) -> dict[str, Any]:
    """The seconds, and the seconds of CPU, of each step, and the peak of memory."""
    found: dict[str, Any] = {"steps": {}}
    steps = CONTENDERS[name](url, size)
    for step in STEPS:
        began, cpu = time.perf_counter(), time.process_time()
        await anext(steps)
        found["steps"][step] = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    await anext(steps, None)
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def measured(template: str, name: str, size: int) -> dict[str, Any]:
    """In a process and a database of its own."""
    url = create_database(template, template=template)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.sync", "--one", name, "--url", url, "--members", str(size)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    finally:
        drop_database(url)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main(
    members: Annotated[list[int] | None, typer.Option(help="How many; more than once for several sizes.")] = None,
    million: Annotated[bool, typer.Option("--million", help="Also a million: some minutes.")] = False,
    json_file: Annotated[str | None, typer.Option("--json", help="Where to write the raw figures.")] = None,
    contender: Annotated[str | None, typer.Option("--one", hidden=True)] = None,
    url: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure at 1,000, 10,000 and 100,000 members, on DATABASE_URL's server or on one started for it."""
    if contender is not None and url is not None and members:
        print(json.dumps(uvloop.run(one(contender, url, members[0]))))
        return
    console = Console(highlight=False, width=140)
    figures: dict[str, dict[str, Any]] = {}
    database_url, rabbitmq_url = given_urls()
    with local_stack(lambda line: console.print(line, style="dim"), database_url=database_url, rabbitmq_url=rabbitmq_url) as stack:
        asyncio.run(migrate(stack.database_url))
        for size in [*(members or SIZES), *((MILLION,) if million else ())]:
            table = Table(title=f"{size:,} members: seconds (of which CPU of the process)")
            for column in ("", *STEPS, "peak MB"):
                table.add_column(column, justify="right")
            for name in CONTENDERS:
                if name == ROW_BY_ROW and size > MOST_ROW_BY_ROW:
                    continue
                found = figures.setdefault(str(size), {})[name] = measured(stack.database_url, name, size)
                cells = [f"{one['seconds']:.2f} ({one['cpu']:.2f})" for one in found["steps"].values()]
                table.add_row(name, *cells, f"{found['peak_mb']:.0f}")
            console.print(table)
    if json_file is not None:
        with open(json_file, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    typer.run(main)
