"""Scans: asked for, followed, and what they found."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final, assert_never
from uuid import UUID

from fastapi import Query, Response

from service.actions.audit_change import Author, audit_change
from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.request_scan import NoProviders, request_scan
from service.domain.member import MemberId
from service.domain.scans import FindingState, Severity
from service.entrypoints.http.admin.api_model import Listed
from service.entrypoints.http.admin.idempotency import IDEMPOTENT, Once, Reply
from service.entrypoints.http.admin.job_models import StartedJob
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Reader, Syncer, Watcher
from service.entrypoints.http.admin.problems import ProblemError
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.scan_models import Finding, Scan, shown_finding, shown_scan
from service.entrypoints.http.admin.setting import Db
from service.store.database import Tx
from service.store.findings import FindingFilter, list_findings, list_findings_of_scan
from service.store.scan_parts import list_parts
from service.store.scans import find_scan, list_scans

__all__ = ["router"]

router: Final = admin_router("scans")

_SCANS: Final = Cursor("scans", (int,))
_FINDINGS: Final = Cursor("findings", (UUID,))
_OF_SCAN: Final = Cursor("scan findings", (UUID,))


@router.post(
    "/api/company/scan",
    summary="Scan the company",
    status_code=HTTPStatus.ACCEPTED,
    response_model=StartedJob,
    responses=IDEMPOTENT,
)
async def scan(principal: Syncer, once: Once) -> Response:
    """Let the company's providers look at its members, whatever the interval. A worker does it; the answer names the job.

    409 names the job that does so already, or says that the company has no providers.
    """

    async def work(tx: Tx) -> Reply:
        answer = await request_scan(tx, principal.company_id, requested_by=principal.actor)
        match answer:
            case Enqueued(job_id=job_id):
                author = Author(principal.company_id, principal.actor)
                await audit_change(tx, author, "company.scan_requested", principal.company_id)
                return Reply(HTTPStatus.ACCEPTED, StartedJob(job_id=job_id), {"Location": f"/sync/jobs/{job_id}"})
            case AlreadyRunning(job_id=job_id):
                raise ProblemError(HTTPStatus.CONFLICT, "the company is being scanned already", job_id=job_id)
            case NoProviders():
                detail = "the company has no scan providers; PATCH /api/company with scanProviders sets them"
                raise ProblemError(HTTPStatus.CONFLICT, detail)
            case None:
                raise ProblemError.not_found("company")
            case _:
                assert_never(answer)

    return await once.answer(work)


@router.get("/api/scans", summary="List scans")
async def list_all(principal: Watcher, db: Db, page: Page) -> Listed[Scan]:
    """What became of the company's scans, the newest first."""
    after = _SCANS.read(page)
    async with db.transaction() as tx:
        rows = await list_scans(tx, principal.company_id, below=None if after is None else after[0], limit=page.wanted)
        parts = await list_parts(tx, [row.id for row in rows])
    return _SCANS.page(page, rows, lambda row: shown_scan(row, parts), lambda row: (row.number,))


@router.get("/api/scans/{scan_id}", summary="Show a scan")
async def show(scan_id: UUID, principal: Watcher, db: Db) -> Scan:
    """What each provider came to."""
    async with db.transaction() as tx:
        row = await find_scan(tx, scan_id, principal.company_id)
        if row is None:
            raise ProblemError.not_found("scan")
        return shown_scan(row, await list_parts(tx, [row.id]))


@router.get("/api/scans/{scan_id}/findings", summary="What a scan found")
async def findings_of_scan(scan_id: UUID, principal: Reader, db: Db, page: Page) -> Listed[Finding]:
    """Its findings as they are now, new ones and those that were known, the newest first. Personal data."""
    after = _OF_SCAN.read(page)
    async with db.transaction() as tx:
        row = await find_scan(tx, scan_id, principal.company_id)
        if row is None:
            raise ProblemError.not_found("scan")
        rows = await list_findings_of_scan(
            tx, principal.company_id, row.number, below=None if after is None else after[0], limit=page.wanted
        )
    return _OF_SCAN.page(page, rows, shown_finding, lambda row: (row.id,))


@router.get("/api/findings", summary="List findings")
async def findings(
    principal: Reader,
    db: Db,
    page: Page,
    state: Annotated[FindingState, Query(description="`open`: it is so as far as is known.")] = FindingState.OPEN,
    provider: Annotated[str | None, Query(max_length=50, description="Only this provider's.")] = None,
    kind: Annotated[str | None, Query(max_length=50, description="Only of this kind.")] = None,
    severity: Annotated[Severity | None, Query(description="Only these.")] = None,
    member_id: Annotated[UUID | None, Query(alias="memberId", description="Only this member's.")] = None,
) -> Listed[Finding]:
    """What the company's providers say of its members, the newest first. Personal data."""
    after = _FINDINGS.read(page)
    wanted = FindingFilter(
        state=state,
        provider=provider,
        kind=kind,
        severity=severity,
        member_id=None if member_id is None else MemberId(member_id),
    )
    async with db.transaction() as tx:
        rows = await list_findings(tx, principal.company_id, wanted, below=None if after is None else after[0], limit=page.wanted)
    return _FINDINGS.page(page, rows, shown_finding, lambda row: (row.id,))
