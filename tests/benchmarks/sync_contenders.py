"""Who brings members in step with the directory: Rollcall, and a script that goes row by row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import asyncpg

from service.actions.enqueue_job import Enqueued
from service.actions.request_sync import request_sync
from service.actions.review_sync import approve_sync
from service.actions.run_job import JobOptions, claim_job, run_job
from service.actions.running_job import JobKind, RunningJob
from service.actions.sync_directory import SyncSetting, sync_directory
from service.cli.processes import collect_seldom
from service.clients.directories.source import Source
from service.domain.change import VersionKind
from service.domain.directories.sync_options import SyncOptions
from service.domain.jobs import JobId, JobResult
from service.domain.member import CompanyId, ConnectionId
from service.store.companies import insert_company
from service.store.connections import insert_directory
from service.store.database import Database
from service.store.jobs import JobRow, find_job
from service.wiring.directories import described
from tests.benchmarks.sync_people import STEPS, MadeUp, over_http, population, serving

__all__ = ["rollcall", "rollcall_over_http", "row_by_row"]

Opened = Callable[[str], AbstractAsyncContextManager[Source]]

_DIRECTORY: Final = {"baseUrl": "https://members.example.com"}


async def rollcall(url: str, size: int) -> AsyncIterator[None]:
    """The sync as it is; the fetch costs no more than making the records up."""

    @asynccontextmanager
    async def opened(step: str) -> AsyncIterator[Source]:
        yield MadeUp(size, step)

    async for _ in _rollcall(url, opened):
        yield


async def rollcall_over_http(url: str, size: int) -> AsyncIterator[None]:
    """The same with Rollcall's own client, and a directory that answers as fast as it can make records up."""
    with serving() as address:
        async for _ in _rollcall(url, lambda step: over_http(address, size, step)):
            yield


async def _rollcall(url: str, source_of: Opened) -> AsyncIterator[None]:
    db = await Database.connect(url, name="benchmark", size=8)
    async with db.transaction() as tx:
        company = (await insert_company(tx, "Company", "UTC", None)).id
        fields = ["email", "name", "national_id"]
        connection = (await insert_directory(tx, company, "d", "django", VersionKind.NONE, fields, _DIRECTORY, None)).id
    # As the process of every role does.
    collect_seldom()
    for step in STEPS:
        await _sync(db, company, connection, source_of, step)
        yield
    await db.close()


async def _sync(db: Database, company: CompanyId, connection: ConnectionId, source_of: Opened, step: str) -> None:
    async def sync(job: RunningJob) -> JobResult:
        setting = SyncSetting(opened=lambda _: source_of(step), described=described, default_grace_days=0, enabled=True)
        return await sync_directory(db, job, setting)

    async with db.transaction() as tx:
        enqueued = await request_sync(tx, connection, SyncOptions(), requested_by="benchmark", enabled=True)
    if not isinstance(enqueued, Enqueued):
        raise TypeError(enqueued)
    row = await _run(db, enqueued.job_id, JobKind(sync))
    if row.state == "quarantined":
        async with db.transaction() as tx:
            await approve_sync(tx, enqueued.job_id, company, "benchmark", enabled=True)
        row = await _run(db, enqueued.job_id, JobKind(sync))
    if row.state != "succeeded":
        message = f"{step}: {row.state}, {row.error}"
        raise RuntimeError(message)


async def _run(db: Database, job_id: JobId, kind: JobKind) -> JobRow:
    options = JobOptions()
    claimed = await claim_job(db, job_id, uuid4(), options.lease)
    if claimed is None:
        raise RuntimeError("somebody else has the job")
    await run_job(db, claimed, kind, options=options)
    async with db.transaction() as tx:
        row = await find_job(tx, job_id)
    if row is None:
        raise RuntimeError("the job is gone")
    return row


async def row_by_row(url: str, size: int) -> AsyncIterator[None]:
    """A look and a write for each record, a transaction each, and then one for each that is gone: as most scripts do."""
    connection: Any = await asyncpg.connect(url)
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
