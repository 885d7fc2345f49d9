"""Directories: where a company's members come from, how that is asked, and whether it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, NoReturn, TypeAlias, TypeVar, assert_never
from uuid import UUID

from fastapi import Query, Response

from service.actions.audit_change import Author
from service.actions.configure_directory import (
    DirectoryRefused,
    NameTaken,
    NewDirectory,
    register_directory,
    revise_directory,
)
from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.probe_directory import Probe, probe_directory, release_probed
from service.actions.retire_directory import Archived, KeptMembers, OwnsLiveMembers, keep_members, remove_members, retire_unused
from service.actions.schedule_sync import NotScheduled, choose_sync_mode, schedule_sync
from service.domain.member import ConnectionId
from service.entrypoints.http.admin.api_model import Listed
from service.entrypoints.http.admin.directory_models import (
    Directory,
    DirectoryPatch,
    NewDirectoryBody,
    Preview,
    TestResult,
    domain_fields,
    limits_of,
    shown_directory,
    shown_preview,
    shown_test,
)
from service.entrypoints.http.admin.idempotency import IDEMPOTENT, Once, OncePerKey, Reply
from service.entrypoints.http.admin.job_models import StartedJob
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Administrator, Principal, Reader
from service.entrypoints.http.admin.problems import ProblemError, documented
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import AdminSetting, Db, Setting
from service.store.connections import DirectoryRow, find_directory
from service.store.database import Database, Tx
from service.store.directories import page_directories, show_directory

__all__ = ["router"]

T = TypeVar("T")

router: Final = admin_router("directories")

_PAGES: Final = Cursor("directories", (str,))
# What a patch says besides how the directory is asked.
_APART: Final = frozenset({"removal_limits", "fields", "auto_sync_interval_minutes", "sync_mode"})
_Retired: TypeAlias = Archived | KeptMembers | OwnsLiveMembers | Enqueued | AlreadyRunning | None
_RETIRED: Final[Mapping[str | None, Callable[[Tx, Author, ConnectionId], Awaitable[_Retired]]]] = {
    None: retire_unused,
    "keep": keep_members,
    "remove": remove_members,
}
_OF_PATCH: Final = documented({409: "the name is taken, or a sync reads the directory in this moment"})
_OF_DELETE: Final = documented({409: "it owns live members: members=keep or members=remove says what becomes of them"})


@router.get("/api/directory", summary="List directories")
async def list_all(
    principal: Reader,
    db: Db,
    page: Page,
    archived: Annotated[bool, Query(description="Those that are out of use, too.")] = False,
) -> Listed[Directory]:
    """All connections of the company by name; also those whose source is not asked, but sends webhooks or publishes."""
    after = _PAGES.read(page)
    async with db.transaction() as tx:
        rows = await page_directories(
            tx, principal.company_id, archived=archived, after=None if after is None else after[0], limit=page.wanted
        )
    return _PAGES.page(page, rows, shown_directory, lambda row: (row.name,))


@router.post(
    "/api/directory",
    summary="Add a directory",
    status_code=HTTPStatus.CREATED,
    response_model=Directory,
    responses=IDEMPOTENT,
)
async def add(new: NewDirectoryBody, principal: Administrator, once: Once, setting: Setting) -> Response:
    """Describe a directory that is asked for members. Whether it can be asked, `POST /api/directory/{id}/test` says."""
    author, added, by_operator = _author(principal), setting.added, principal.is_operator
    described = NewDirectory(
        name=new.name,
        kind=new.kind,
        settings=new.settings,
        secret_reference=new.secret_reference,
        versions=new.versions,
        fields=domain_fields(new.fields),
    )

    async def work(tx: Tx) -> Reply:
        row = _accepted(await register_directory(tx, author, described, added=added, by_operator=by_operator))
        view = await show_directory(tx, row.id, principal.company_id)
        if new.removal_limits is not None:
            given = {"limits": limits_of(new.removal_limits)}
            view = _accepted(await revise_directory(tx, author, row.id, given, added=added, by_operator=by_operator))
        return Reply(HTTPStatus.CREATED, shown_directory(_found(view)), {"Location": f"/api/directory/{row.id}"})

    return await once.answer(work)


@router.get("/api/directory/{directory_id}", summary="Show a directory")
async def show(directory_id: UUID, principal: Reader, db: Db) -> Directory:
    """How it is asked and where its syncs stand."""
    async with db.transaction() as tx:
        return shown_directory(_found(await show_directory(tx, ConnectionId(directory_id), principal.company_id)))


@router.patch("/api/directory/{directory_id}", summary="Change a directory", responses=_OF_PATCH)
async def change(directory_id: UUID, patch: DirectoryPatch, principal: Administrator, db: Db, setting: Setting) -> Directory:
    """Change how it is asked or what its records mean; a blocked one is asked again from now on.

    Where its records mean something else then, the next sync is a full one and compares every member anew.
    """
    given: dict[str, Any] = {name: getattr(patch, name) for name in patch.model_fields_set - _APART}
    if "fields" in patch.model_fields_set:
        given["fields"] = domain_fields(patch.fields)
    if "removal_limits" in patch.model_fields_set:
        given["limits"] = limits_of(patch.removal_limits)
    author, connection_id = _author(principal), ConnectionId(directory_id)
    async with db.transaction() as tx:
        revised = await revise_directory(tx, author, connection_id, given, added=setting.added, by_operator=principal.is_operator)
        answer = _accepted(revised)
        if "auto_sync_interval_minutes" in patch.model_fields_set:
            scheduled = await schedule_sync(tx, author, connection_id, patch.auto_sync_interval_minutes)
            if isinstance(scheduled, NotScheduled):
                raise ProblemError.wrong("body.autoSyncIntervalMinutes", scheduled.reason)
        if "sync_mode" in patch.model_fields_set:
            chosen = await choose_sync_mode(tx, author, connection_id, patch.sync_mode)
            if isinstance(chosen, NotScheduled):
                raise ProblemError.wrong("body.syncMode", chosen.reason)
        if {"auto_sync_interval_minutes", "sync_mode"} & patch.model_fields_set:
            answer = _found(await show_directory(tx, connection_id, principal.company_id))
        return shown_directory(answer)


@router.delete(
    "/api/directory/{directory_id}",
    summary="Take a directory out of use",
    status_code=HTTPStatus.NO_CONTENT,
    responses={**_OF_DELETE, 202: {"model": StartedJob, "description": "A job removes its members, and archives it then"}},
)
async def retire(
    directory_id: UUID,
    principal: Administrator,
    db: Db,
    members: Annotated[
        Literal["keep", "remove"] | None,
        Query(description="What becomes of its live members: they stay as they are, or a guarded job removes them."),
    ] = None,
) -> Response:
    """Archive it: its jobs are cancelled, its webhooks answer 404, its members' history stays.

    With `members=remove` a job removes them first. Where they are more than the removal limits let pass, it waits as `quarantined`
    for `POST /sync/jobs/{id}/approve`.
    """
    connection_id, author = ConnectionId(directory_id), _author(principal)
    async with db.transaction() as tx:
        answer = await _RETIRED[members](tx, author, connection_id)
    match answer:
        case Archived():
            return Response(status_code=HTTPStatus.NO_CONTENT)
        case Enqueued(job_id=job_id):
            started = StartedJob(job_id=job_id)
            headers = {"Location": f"/sync/jobs/{job_id}"}
            return Response(started.model_dump_json(), HTTPStatus.ACCEPTED, headers, "application/json")
        case OwnsLiveMembers():
            raise ProblemError(
                HTTPStatus.CONFLICT, "it owns live members; members=keep or members=remove says what becomes of them"
            )
        case KeptMembers():
            raise ProblemError(HTTPStatus.CONFLICT, "it is archived, and its members were kept: take them out one by one")
        case AlreadyRunning(job_id=job_id):
            raise ProblemError(HTTPStatus.CONFLICT, "its members are being removed already", job_id=job_id)
        case None:
            raise ProblemError.not_found("directory")
        case _:
            assert_never(answer)


@router.post("/api/directory/{directory_id}/test", summary="Test a directory", response_model=TestResult, responses=IDEMPOTENT)
async def test(directory_id: UUID, principal: Administrator, db: Db, setting: Setting, once: Once) -> Response:
    """Ask for its first page. Where it can be synced, and was blocked, it is released."""
    row, probe = await _probed(db, principal, directory_id, setting, once)

    async def work(tx: Tx) -> Reply:
        return Reply(HTTPStatus.OK, shown_test(await release_probed(tx, principal.actor, row, probe)))

    return await once.answer(work)


@router.post("/api/directory/{directory_id}/preview", summary="Preview a mapping", response_model=Preview, responses=IDEMPOTENT)
async def preview(directory_id: UUID, principal: Administrator, db: Db, setting: Setting, once: Once) -> Response:
    """What the first records of its first page would mean; nobody of them is stored. Personal data.

    Sent again with its Idempotency-Key it answers each record without its `externalId` and `member`.
    """
    _, probe = await _probed(db, principal, directory_id, setting, once)

    async def work(_: Tx) -> Reply:
        # What is kept outlives an erasure, and would hold people who are no members.
        return Reply(HTTPStatus.OK, shown_preview(probe), kept=shown_preview(probe, people=False))

    return await once.answer(work)


async def _probed(
    db: Database, principal: Principal, directory_id: UUID, setting: AdminSetting, once: OncePerKey
) -> tuple[DirectoryRow, Probe]:
    """A look at the first page, outside of every transaction; raises AlreadyAnswered before anybody is asked."""
    await once.look()
    row = await _asked(db, principal, directory_id)
    async with _place(setting):
        return row, await probe_directory(row, setting.opened, setting.described)


@asynccontextmanager
async def _place(setting: AdminSetting) -> AsyncIterator[None]:
    """A place among the few that may ask a directory at once: a page may be large, and this process has webhooks to take."""
    if setting.probes.locked():
        detail = "several directories are being asked at this moment; try again"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "5"})
    async with setting.probes:
        yield


async def _asked(db: Database, principal: Principal, directory_id: UUID) -> DirectoryRow:
    """A directory of the company that can be asked."""
    async with db.transaction() as tx:
        view = _found(await show_directory(tx, ConnectionId(directory_id), principal.company_id))
        row = await find_directory(tx, view.id)
    if row is None:
        raise ProblemError.wrong("path.directory_id", "its source is not asked: it tells by itself")
    if view.status == "archived":
        raise ProblemError.wrong("path.directory_id", "it is archived")
    return row


def _author(principal: Principal) -> Author:
    return Author(principal.company_id, principal.actor)


def _found(view: T | None) -> T:
    if view is None:
        raise ProblemError.not_found("directory")
    return view


def _accepted(answer: T | DirectoryRefused | NameTaken | AlreadyRunning | None) -> T:
    if isinstance(answer, DirectoryRefused | NameTaken | AlreadyRunning):
        _refuse(answer)
    return _found(answer)


def _refuse(answer: DirectoryRefused | NameTaken | AlreadyRunning) -> NoReturn:
    match answer:
        case DirectoryRefused(where=where, reason=reason):
            raise ProblemError.wrong(f"body.{where}", reason)
        case NameTaken():
            raise ProblemError(HTTPStatus.CONFLICT, "the company has a connection of that name, in use or archived")
        case AlreadyRunning(job_id=job_id):
            detail = "a job works on the directory; change what its records mean when that has ended"
            raise ProblemError(HTTPStatus.CONFLICT, detail, job_id=job_id)
