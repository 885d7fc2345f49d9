"""Syncs: asked for, followed, and what they did, record by record."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, assert_never
from uuid import UUID

from fastapi import Query, Response

from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.request_sync import DIRECTORY_SYNC, SyncRefused, request_sync
from service.domain.directories.delta import Count
from service.domain.directories.sync_options import SyncOptions
from service.domain.member import CompanyId, ConnectionId
from service.entrypoints.http.admin.api_model import Listed
from service.entrypoints.http.admin.idempotency import IDEMPOTENT, Once, OncePerKey, Reply
from service.entrypoints.http.admin.job_models import StartedJob, shown_job
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Principal, Reader, Syncer, Watcher
from service.entrypoints.http.admin.problems import ProblemError
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import AdminSetting, Db, Setting
from service.entrypoints.http.admin.sync_models import (
    DirectoryStatus,
    Entry,
    Status,
    SyncBody,
    SyncRun,
    shown_entry,
    shown_run,
)
from service.store.database import Tx
from service.store.directories import DirectoryView, list_live_directories, page_directories
from service.store.jobs import find_active_job, find_job
from service.store.sync_entries import list_entries
from service.store.sync_log import find_sync, list_open_quarantines, list_syncs

__all__ = ["router"]

router: Final = admin_router("syncs")

_RUNS: Final = Cursor("syncs", (datetime, UUID))
_ENTRIES: Final = Cursor("entries", (int,))
_DIRECTORIES: Final = Cursor("sync status", (str,))

_ACCEPTED: Final[dict[str, Any]] = {
    "status_code": HTTPStatus.ACCEPTED,
    "response_model": StartedJob,
    "responses": IDEMPOTENT,
}


@router.post("/sync", summary="Sync a directory", **_ACCEPTED)
async def sync(principal: Syncer, setting: Setting, once: Once, asked: SyncBody | None = None) -> Response:
    """Bring the members in step with their directory. A worker does it; the answer names the job.

    409 names the job that stands in the way, or says why there is no syncing now.
    """
    body = asked or SyncBody()
    return await _request(principal, setting, once, body, body.options(dry_run=False))


@router.post("/sync/dry-run", summary="See what a sync would do", **_ACCEPTED)
async def dry_run(principal: Syncer, setting: Setting, once: Once, asked: SyncBody | None = None) -> Response:
    """The same without effect: `GET /sync/logs/{id}/entries` shows each difference. Also while syncs are switched off."""
    body = asked or SyncBody()
    return await _request(principal, setting, once, body, body.options(dry_run=True))


@router.get("/sync/status", summary="Where the syncs stand")
async def status(principal: Watcher, db: Db, setting: Setting, page: Page) -> Status:
    """By directory, in the order of their names: the last run, what runs now, and what waits for somebody."""
    after = _DIRECTORIES.read(page)
    async with db.transaction() as tx:
        views = await page_directories(
            tx,
            principal.company_id,
            archived=False,
            after=None if after is None else after[0],
            limit=page.wanted,
            only_asked=True,
        )
        found = [await _status(tx, view) for view in views[: page.limit]]
    last = _DIRECTORIES.page(page, views, lambda view: view.name, lambda view: (view.name,))
    return Status(enabled=setting.sync_enabled, directories=found, next_cursor=last.next_cursor)


@router.get("/sync/logs", summary="List syncs")
async def logs(
    principal: Watcher,
    db: Db,
    page: Page,
    connection_id: Annotated[UUID | None, Query(alias="connectionId", description="Only this directory's.")] = None,
) -> Listed[SyncRun]:
    """What became of them, the newest first."""
    after = _RUNS.read(page)
    async with db.transaction() as tx:
        rows = await list_syncs(
            tx,
            company_id=principal.company_id,
            connection_id=None if connection_id is None else ConnectionId(connection_id),
            after=None if after is None else (after[0], after[1]),
            limit=page.wanted,
        )
    return _RUNS.page(page, rows, shown_run, lambda row: (row.started_at, row.id))


@router.get("/sync/logs/{log_id}", summary="Show a sync")
async def log(log_id: UUID, principal: Watcher, db: Db) -> SyncRun:
    """What it found and did."""
    async with db.transaction() as tx:
        row = await find_sync(tx, log_id, principal.company_id)
    if row is None:
        raise ProblemError.not_found("sync")
    return shown_run(row)


@router.get("/sync/logs/{log_id}/entries", summary="What a sync says of single records")
async def entries(
    log_id: UUID,
    principal: Reader,
    db: Db,
    page: Page,
    what: Annotated[Count | None, Query(description="Only these.")] = None,
) -> Listed[Entry]:
    """Every problem; of a dry run every difference, with its values; of a quarantined one whom it would remove. Personal data."""
    after = _ENTRIES.read(page)
    async with db.transaction() as tx:
        if await find_sync(tx, log_id, principal.company_id) is None:
            raise ProblemError.not_found("sync")
        rows = await list_entries(tx, log_id, what=what, after=0 if after is None else after[0], limit=page.wanted)
    return _ENTRIES.page(page, rows, shown_entry, lambda row: (row.id,))


async def _request(
    principal: Principal, setting: AdminSetting, once: OncePerKey, asked: SyncBody, options: SyncOptions
) -> Response:
    async def work(tx: Tx) -> Reply:
        connection_id = await _connection(tx, principal.company_id, asked.connection_id)
        answer = await request_sync(
            tx,
            connection_id,
            options,
            requested_by=principal.actor,
            enabled=setting.sync_enabled,
            company_id=principal.company_id,
        )
        match answer:
            case Enqueued(job_id=job_id):
                return Reply(HTTPStatus.ACCEPTED, StartedJob(job_id=job_id), {"Location": f"/sync/jobs/{job_id}"})
            case AlreadyRunning(job_id=job_id):
                raise ProblemError(HTTPStatus.CONFLICT, "a job works on the directory already", job_id=job_id)
            case SyncRefused(reason=reason):
                raise ProblemError(HTTPStatus.CONFLICT, reason)
            case None:
                raise ProblemError.not_found("directory")
            case _:
                assert_never(answer)

    return await once.answer(work)


async def _connection(tx: Tx, company_id: CompanyId, given: UUID | None) -> ConnectionId:
    """The directory that is meant: the company's only one, unless it is said."""
    if given is not None:
        return ConnectionId(given)
    directories = await list_live_directories(tx, company_id)
    if not directories:
        raise ProblemError(HTTPStatus.CONFLICT, "the company has no directory to sync; POST /api/directory adds one")
    if len(directories) > 1:
        raise ProblemError.wrong("body.connectionId", "needed: the company has several directories; GET /api/directory lists them")
    return directories[0][0]


async def _status(tx: Tx, view: DirectoryView) -> DirectoryStatus:
    runs = await list_syncs(tx, company_id=view.company_id, connection_id=view.id, limit=1)
    active = await find_active_job(tx, DIRECTORY_SYNC, view.id)
    job = None if active is None else await find_job(tx, active, view.company_id)
    return DirectoryStatus(
        connection_id=view.id,
        name=view.name,
        status=view.status,
        last_run=shown_run(runs[0]) if runs else None,
        job=None if job is None else shown_job(job),
        waiting=[*await list_open_quarantines(tx, view.id)],
        last_full_sync_at=view.last_full_sync_at,
        last_incremental_sync_at=view.last_incremental_sync_at,
    )
