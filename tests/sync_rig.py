"""What the tests of syncs stand on: a company with a directory connection, jobs run where the test waits for them, and its books.

`python -m tests.sync_rig` is a worker of the real kinds with short leases.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from pydantic import SecretStr

from service.actions import stage_snapshot
from service.actions.enqueue_job import Enqueued
from service.actions.request_sync import request_sync
from service.actions.review_sync import approve_sync, reject_sync
from service.actions.run_job import JobOptions, claim_job, run_job
from service.actions.running_job import JobKind, RunningJob
from service.actions.sync_directory import SyncSetting, sync_directory
from service.clients.directories.opening import Outside, open_source
from service.clients.directories.source import Source
from service.domain.change import VersionKind
from service.domain.directories.configuration import directory
from service.domain.directories.sync_options import SyncOptions
from service.domain.jobs import JobId, JobResult
from service.domain.member import CompanyId, ConnectionId
from service.settings import load_settings
from service.store.companies import insert_company
from service.store.connections import DirectoryRow, find_directory, insert_directory
from service.store.database import Tx
from service.store.jobs import JobRow, find_job
from service.store.secret_grants import grant_secret
from service.store.sync_entries import SyncEntry, list_entries
from service.store.sync_log import SyncLogRow, find_last_sync_of_job
from service.telemetry.logs import configure_logs
from service.wiring.directories import described
from service.wiring.worker import Worker
from tests.apply_rig import Books, CountingDatabase
from tests.directory_rig import KEY, LOOPBACK, NESTED, QUICK, Upstream, paged

OPTIONS = JobOptions(lease=timedelta(seconds=30), look=timedelta(seconds=0.02))
SECRET = "env:ROLLCALL_SECRET_DIRECTORY"
# What of the books a dry run must not touch.
SAFE = ("members", "member_events", "inbox", "outbox", "connections", "companies")


class Syncs(Books):
    """One connection to a directory, and syncs of it that are run to their end where they are asked for."""

    upstream: Upstream
    enabled = True

    async def refresh(self) -> DirectoryRow:
        async with self.database.transaction() as tx:
            row = await find_directory(tx, self.connection)
        assert row is not None
        return row

    @asynccontextmanager
    async def opened(self, row: DirectoryRow) -> AsyncIterator[Source]:
        key = None if row.secret_reference is None else SecretStr(KEY)
        async with open_source(described(row), key, Outside(LOOPBACK, limits=QUICK)) as source:
            yield source

    def kind(self, wrap: Callable[[Source], Source] | None = None) -> JobKind:
        @asynccontextmanager
        async def opened(row: DirectoryRow) -> AsyncIterator[Source]:
            async with self.opened(row) as source:
                yield source if wrap is None else wrap(source)

        setting = SyncSetting(opened=opened, described=described, default_grace_days=0, enabled=self.enabled)

        async def run(job: RunningJob) -> JobResult:
            return await sync_directory(self.database, job, setting)

        return JobKind(run)

    async def request(self, **options: Any) -> JobId:
        async with self.database.transaction() as tx:
            enqueued = await request_sync(tx, self.connection, SyncOptions(**options), requested_by="tests", enabled=self.enabled)
        assert isinstance(enqueued, Enqueued), enqueued
        return enqueued.job_id

    async def run(self, job: JobId, wrap: Callable[[Source], Source] | None = None, *, options: JobOptions = OPTIONS) -> JobRow:
        claimed = await claim_job(self.database, job, uuid4(), options.lease)
        assert claimed is not None
        await run_job(self.database, claimed, self.kind(wrap), options=options, jitter=lambda: 0.5)
        return await self.job(job)

    async def job(self, job: JobId) -> JobRow:
        async with self.database.transaction() as tx:
            row = await find_job(tx, job)
        assert row is not None
        return row

    async def sync(self, wrap: Callable[[Source], Source] | None = None, **options: Any) -> JobRow:
        """A sync from its request to the end of its first attempt; what it says of itself must agree with the books."""
        row = await self.run(await self.request(**options), wrap)
        await self.check()
        assert await self.leftovers() == (0, 0)
        return row

    async def approve(self, job: JobId, wrap: Callable[[Source], Source] | None = None) -> JobRow:
        async with self.database.transaction() as tx:
            assert isinstance(await approve_sync(tx, job, self.company, "tests", enabled=True), Enqueued)
        return await self.run(job, wrap)

    async def reject(self, job: JobId) -> None:
        async with self.database.transaction() as tx:
            await reject_sync(tx, job, self.company, "tests")

    async def log(self, job: JobId) -> SyncLogRow:
        async with self.database.transaction() as tx:
            row = await find_last_sync_of_job(tx, job)
        assert row is not None
        return row

    async def entries(self, job: JobId) -> list[SyncEntry]:
        run = await self.log(job)
        async with self.database.transaction() as tx:
            return await list_entries(tx, run.id, limit=10_000)

    async def live(self) -> set[str]:
        sql = "select external_id from members where upstream_state <> 'removed' and connection_id = $1"
        rows = await self.fetch(sql, self.connection)
        return {key for (key,) in rows}

    async def checksums(self) -> dict[str, Any]:
        """Of every table that a dry run leaves alone; of the books also where each row lies, and who locked it."""
        found = {}
        for table in SAFE:
            place = "" if table in ("companies", "connections") else "t.ctid::text || t.xmin::text || t.xmax::text || "
            others = " where routing_key not like 'job.%'" if table == "outbox" else ""
            sql = f"select md5(string_agg({place}t::text, ',' order by t.ctid)) from {table} t{others}"
            ((found[table],),) = await self.fetch(sql)
        return found

    async def leftovers(self) -> tuple[int, int]:
        ((staged, differing),) = await self.fetch(
            "select (select count(*) from sync_pages) + (select count(*) from sync_staging), (select count(*) from sync_delta)"
        )
        return staged, differing

    async def check(self) -> None:
        """As the books, whose outbox also holds the messages of jobs."""
        await self.fetch("delete from outbox where routing_key like 'job.%' returning id")
        await super().check()


def counts(log: SyncLogRow) -> dict[str, int]:
    """What a run counted, without the zeros."""
    names = ("added", "updated", "reactivated", "removed", "verified", "left_alone", "error_count")
    return {name: value for name in names if (value := getattr(log, name))}


@asynccontextmanager
async def open_syncs(
    url: str,
    upstream: Upstream,
    *,
    paging: str = "page-number",
    nested: bool = False,
    versions: VersionKind | None = None,
    page_size: int = 20,
    **settings: Any,
) -> AsyncIterator[Syncs]:
    """An emptied database with a connection to the upstream, of the seed's shape or the nested one with updates' times."""
    database = await CountingDatabase.connect(url, name="tests", size=8)
    try:
        async with database.transaction() as tx:
            await tx.execute("truncate companies, inbox, outbox, sync_pages, sync_staging, sync_delta restart identity cascade")
            company = (await insert_company(tx, "Company", "UTC", None)).id
            await grant_secret(tx, company, SECRET)
            connection = await add_directory(
                tx, company, upstream, paging=paging, nested=nested, versions=versions, page_size=page_size, **settings
            )
        syncs = Syncs(database, company, connection, connection)
        syncs.upstream = upstream
        yield syncs
    finally:
        await database.close()


async def add_directory(
    tx: Tx,
    company: CompanyId,
    upstream: Upstream,
    *,
    name: str = "directory",
    paging: str = "page-number",
    nested: bool = False,
    versions: VersionKind | None = None,
    page_size: int = 20,
    **settings: Any,
) -> ConnectionId:
    described_by = {
        "baseUrl": f"{upstream.url}/{paging}",
        "path": "/api/people/" if nested else "/api/members/",
        "pageSize": page_size,
        **paged(paging),
        **({"mapping": NESTED} if nested else {}),
        **settings,
    }
    mapping = directory("django", described_by).mapping
    kind = versions or (VersionKind.UPDATED_AT if nested else VersionKind.NONE)
    row = await insert_directory(tx, company, name, "django", kind, mapping.mapped_fields, described_by, SECRET)
    return row.id


class Interfering:
    """A source that does something when a page of one of its readings has come."""

    def __init__(self, source: Source, page: int, act: Callable[[], Any]) -> None:
        self.source, self.page, self.act = source, page, act

    @property
    def supports_since(self) -> bool:
        return self.source.supports_since

    @property
    def pages_shift(self) -> bool:
        return self.source.pages_shift

    async def health(self) -> Any:
        return await self.source.health()

    async def pages(self, since: Any = None) -> Any:
        async for page in self.source.pages(since):
            yield page
            if page.number == self.page:
                acted = self.act()
                if asyncio.iscoroutine(acted):
                    await acted


async def main() -> None:
    # What it has read is looked through page by page, so that it can be killed between two.
    vars(stage_snapshot)["_TOGETHER"] = 1
    worker = Worker(load_settings(), job_options=replace(OPTIONS, lease=timedelta(seconds=3), beat=timedelta(seconds=0.5)))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await worker.start()
    await stop.wait()
    await worker.stop()


if __name__ == "__main__":
    configure_logs("json", "info")
    asyncio.run(main())
