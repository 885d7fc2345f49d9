"""Jobs: how they go, and what somebody decides about them."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final, assert_never
from uuid import UUID

from fastapi import Query, Response

from service.actions.cancel_job import cancel_job
from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.reconcile_drift import DRIFT_FULL, DRIFT_SAMPLED
from service.actions.request_sync import DIRECTORY_SYNC, SyncRefused
from service.actions.review_job import NotQuarantined, Rejected
from service.actions.review_quarantine import approve_quarantined, reject_quarantined
from service.actions.scan_company import SCAN
from service.domain.api_keys import KeyScope
from service.domain.jobs import CancelAsked, Ended, JobId, JobState, Transition
from service.entrypoints.http.admin.api_model import Listed
from service.entrypoints.http.admin.idempotency import IDEMPOTENT, Once, Reply
from service.entrypoints.http.admin.job_models import Job, StartedJob, shown_job
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Principal, Starter, Watcher, demand
from service.entrypoints.http.admin.problems import ProblemError
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import Db, Setting
from service.store.database import Tx
from service.store.jobs import JobRow, PageEnd, find_job, list_jobs_of_company

__all__ = ["router"]

router: Final = admin_router("jobs")

_PAGES: Final = Cursor("jobs", (datetime, UUID))
# What `Syncer` routes start; the others are an administrator's.
_STARTED_BY_SYNC: Final = frozenset({DIRECTORY_SYNC, SCAN, DRIFT_SAMPLED, DRIFT_FULL})


@router.get("/sync/jobs", summary="List jobs")
async def list_all(
    principal: Watcher,
    db: Db,
    page: Page,
    kind: Annotated[str | None, Query(max_length=50, description="Only these, such as directory_sync.")] = None,
    state: Annotated[JobState | None, Query(description="Only these.")] = None,
) -> Listed[Job]:
    """The company's jobs, the newest first."""
    after = _PAGES.read(page)
    async with db.transaction() as tx:
        rows = await list_jobs_of_company(
            tx,
            principal.company_id,
            kind=kind,
            state=state,
            after=None if after is None else PageEnd(after[0], after[1]),
            limit=page.wanted,
        )
    return _PAGES.page(page, rows, shown_job, lambda row: (row.created_at, row.id))


@router.get("/sync/jobs/{job_id}", summary="Show a job")
async def show(job_id: UUID, principal: Watcher, db: Db) -> Job:
    """How far it is: fetched, compared and applied, by the second, and how long it will take; or what came of it."""
    async with db.transaction() as tx:
        return shown_job(await _found(tx, job_id, principal))


@router.post(
    "/sync/jobs/{job_id}/approve",
    summary="Approve a quarantined job",
    status_code=HTTPStatus.ACCEPTED,
    response_model=StartedJob,
    responses=IDEMPOTENT,
)
async def approve(job_id: UUID, principal: Starter, once: Once, setting: Setting) -> Response:
    """Let the job run again. A sync may then remove whom its list names, and nobody else; a removal as many as it has counted.

    409 where it is not quarantined, another job works on the directory, or syncs are switched off: then the list stays. 403 where
    the key could not have asked for the job: of a sync that takes `sync`, of the removal of a directory's members `admin`.
    """

    async def work(tx: Tx) -> Reply:
        await _demand_start(tx, job_id, principal)
        company_id, enabled = principal.company_id, setting.sync_enabled
        answer = await approve_quarantined(tx, JobId(job_id), company_id, principal.actor, enabled=enabled)
        match answer:
            case Enqueued():
                return Reply(HTTPStatus.ACCEPTED, StartedJob(job_id=job_id), {"Location": f"/sync/jobs/{job_id}"})
            case AlreadyRunning(job_id=other):
                raise ProblemError(HTTPStatus.CONFLICT, "another job works on the directory", job_id=other)
            case NotQuarantined(state=state):
                raise _nothing_to_decide(state)
            case SyncRefused(reason=reason):
                raise ProblemError(HTTPStatus.CONFLICT, reason)
            case None:
                raise ProblemError.not_found("job")
            case _:
                assert_never(answer)

    return await once.answer(work)


@router.post("/sync/jobs/{job_id}/reject", summary="Reject a quarantined job", response_model=Job, responses=IDEMPOTENT)
async def reject(job_id: UUID, principal: Starter, once: Once) -> Response:
    """Let nothing come of it: it is cancelled, its result kept. 409 where it is not quarantined.

    403 where the key could not have asked for the job: a sync takes `sync`, the removal of a directory's members `admin`.
    """

    async def work(tx: Tx) -> Reply:
        await _demand_start(tx, job_id, principal)
        answer = await reject_quarantined(tx, JobId(job_id), principal.company_id, principal.actor)
        match answer:
            case Rejected():
                return Reply(HTTPStatus.OK, shown_job(await _found(tx, job_id, principal)))
            case NotQuarantined(state=state):
                raise _nothing_to_decide(state)
            case None:
                raise ProblemError.not_found("job")
            case _:
                assert_never(answer)

    return await once.answer(work)


@router.post("/sync/jobs/{job_id}/cancel", summary="Cancel a job", response_model=Job, responses=IDEMPOTENT)
async def cancel(job_id: UUID, principal: Starter, once: Once) -> Response:
    """At once while it is queued; a running one stops at its next step. What it has done by then stays. 409 where it has ended.

    403 where the key could not have asked for the job: `sync` is for syncs, scans and drift runs, `admin` for every other kind,
    such as the removal of a directory's members and replays to a subscriber.
    """

    async def work(tx: Tx) -> Reply:
        await _demand_start(tx, job_id, principal)
        answer = await cancel_job(tx, JobId(job_id), principal.company_id, principal.actor)
        match answer:
            case Transition() | CancelAsked():
                return Reply(HTTPStatus.OK, shown_job(await _found(tx, job_id, principal)))
            case Ended(state=state):
                raise ProblemError(HTTPStatus.CONFLICT, f"the job has ended: it is {state.value}")
            case None:
                raise ProblemError.not_found("job")
            case _:
                assert_never(answer)

    return await once.answer(work)


async def _demand_start(tx: Tx, job_id: UUID, principal: Principal) -> None:
    """Raise a problem where the company has no such job, or the key could not have asked for it."""
    row = await _found(tx, job_id, principal)
    demand(principal, KeyScope.SYNC if row.kind in _STARTED_BY_SYNC else KeyScope.ADMIN)


async def _found(tx: Tx, job_id: UUID, principal: Principal) -> JobRow:
    row = await find_job(tx, JobId(job_id), principal.company_id)
    if row is None:
        raise ProblemError.not_found("job")
    return row


def _nothing_to_decide(state: JobState) -> ProblemError:
    return ProblemError(HTTPStatus.CONFLICT, f"the job is {state.value}: there is nothing to decide")
