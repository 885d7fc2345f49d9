"""Drift: whether members are what their directories and their audit say, by run, and runs by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final, assert_never
from uuid import UUID

from fastapi import Path, Query, Response
from pydantic import Field

from service.actions.audit_change import Author, audit_change
from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.request_drift_run import NothingToCompare, request_drift_run
from service.domain.drift import ReconciliationMode, Verdict
from service.entrypoints.http.admin.api_model import AnswerModel, Listed, RequestModel, Whole
from service.entrypoints.http.admin.example_ids import CORRELATION, DRIFT_RUN, HER, JOB
from service.entrypoints.http.admin.idempotency import IDEMPOTENT, Once, Reply
from service.entrypoints.http.admin.job_models import StartedJob
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Syncer, Watcher
from service.entrypoints.http.admin.problems import ProblemError
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import Db, Setting
from service.store.database import Tx
from service.store.drift_findings import (
    DriftFinding,
    FindingKind,
    FindingOfRun,
    list_first_drift_findings,
    page_drift_findings,
)
from service.store.drift_runs import DriftRunRow, find_visible_drift_run, page_drift_runs

__all__ = ["router"]

router: Final = admin_router("drift")

_RUNS: Final = Cursor("drift", (datetime, UUID))
_FINDINGS: Final = Cursor("drift-findings", (str, str))
# Of each run in a list; all that were kept have a page of their own.
_FIRST: Final = 20
_LONGEST: Final = 200

_NAME: Final = "`directory:<connection id>` is one of the company's directories; `audit` is over all companies, and the operator's."


class DriftedKey(AnswerModel):
    """A key that is out of sync or could not be compared; the reason names fields and rules, never values."""

    key: str = Field(description="A member's `externalId` in a directory, its id in `audit`.")
    what: FindingKind
    reason: str = Field(examples=["the member differs from its source in name"])

    example: ClassVar[dict[str, Any]] = {"key": HER, "what": "drift", "reason": "the row differs from its audit in plan"}


class DriftRun(AnswerModel):
    """What one comparison of one read model has counted."""

    id: UUID
    job_id: UUID
    read_model: str = Field(examples=["audit"])
    mode: ReconciliationMode
    started_at: datetime
    finished_at: datetime | None
    verdict: Verdict | None = Field(
        description="Null while it runs, `inconclusive` if its job ended first. A breach is more than 0.001 of what is compared."
    )
    compared: int
    out_of_sync: int
    rate: float | None = Field(description="Out of sync by compared; null where nothing was compared.")
    errors: int = Field(description="Keys that could not be compared; more than 10% of all make a run inconclusive.")
    healed: int
    truncated: bool = Field(description="It was asked to stop after so many keys, and there were more.")
    streak: int = Field(description="Breaches of the read model without a clean run between them, after this one.")
    promoted: bool = Field(description="This run made the streak long enough to be told of, which is done once.")
    error: str | None = Field(description="Why it ended before its keys did.")
    correlation_id: str
    keys: list[DriftedKey] = Field(description="The first 20; `GET /api/drift/runs/{id}/keys` lists a thousand of each kind.")

    example: ClassVar[dict[str, Any]] = {
        "id": DRIFT_RUN,
        "jobId": JOB,
        "readModel": "audit",
        "mode": "full",
        "startedAt": "2026-11-29T04:30:00.040000Z",
        "finishedAt": "2026-11-29T04:30:02.110000Z",
        "verdict": "clean",
        "compared": 1204,
        "outOfSync": 1,
        "rate": 0.00083,
        "errors": 0,
        "healed": 0,
        "truncated": False,
        "streak": 0,
        "promoted": False,
        "error": None,
        "correlationId": CORRELATION,
        "keys": [DriftedKey.example],
    }


class DriftRunBody(RequestModel):
    """How to compare."""

    full: bool = Field(default=False, strict=True, description="Every key, not a sample of one in a hundred.")
    most: Annotated[Whole, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None, description="Stop after so many keys; a run that leaves keys out is `truncated`."
    )

    example: ClassVar[dict[str, Any]] = {"full": True, "most": 100000}


@router.get("/api/drift", summary="List drift runs")
async def list_all(
    principal: Watcher,
    db: Db,
    page: Page,
    read_model: Annotated[
        str | None, Query(alias="readModel", min_length=1, max_length=_LONGEST, description=f"Only this one. {_NAME}")
    ] = None,
    job_id: Annotated[UUID | None, Query(alias="jobId", description="Only what this job has compared.")] = None,
) -> Listed[DriftRun]:
    """What the last runs have found, the newest first: rate, streak, and the keys that were out of sync, with the reason of each.

    Of the company's own directories; with the operator's key also of what is compared over all companies.
    """
    after = _RUNS.read(page)
    async with db.transaction() as tx:
        rows = await page_drift_runs(
            tx,
            principal.company_id,
            whole_installation=principal.is_operator,
            read_model=read_model,
            job_id=job_id,
            after=None if after is None else (after[0], after[1]),
            limit=page.wanted,
        )
        found = await list_first_drift_findings(tx, [row.id for row in rows], _FIRST)
    return _RUNS.page(page, rows, lambda row: _shown(row, found), lambda row: (row.started_at, row.id))


@router.get("/api/drift/runs/{run_id}/keys", summary="List the keys that a drift run has found")
async def keys(run_id: UUID, principal: Watcher, db: Db, page: Page) -> Listed[DriftedKey]:
    """Those that were out of sync, then those that could not be compared; of each the first thousand are kept."""
    after = _FINDINGS.read(page)
    async with db.transaction() as tx:
        if await find_visible_drift_run(tx, run_id, principal.company_id, whole_installation=principal.is_operator) is None:
            raise ProblemError.not_found("drift run")
        rows = await page_drift_findings(tx, run_id, after=None if after is None else (after[0], after[1]), limit=page.wanted)
    return _FINDINGS.page(page, rows, _key, lambda row: (row.what.value, row.key))


@router.post(
    "/api/drift/{read_model}/run",
    summary="Compare a read model",
    status_code=HTTPStatus.ACCEPTED,
    response_model=StartedJob,
    responses=IDEMPOTENT,
)
async def run(
    read_model: Annotated[str, Path(max_length=_LONGEST, pattern=r"^[\x21-\x7e]+$", description=_NAME)],
    principal: Syncer,
    once: Once,
    setting: Setting,
    asked: DriftRunBody | None = None,
) -> Response:
    """Compare it now, a sample of it or all. A worker does it; `Location` is where its run shows up.

    409 names the job of this kind that compares it already, or says why there is nothing to compare.
    """
    body = asked or DriftRunBody()

    async def work(tx: Tx) -> Reply:
        answer = await request_drift_run(
            tx,
            read_model,
            company_id=principal.company_id,
            whole_installation=principal.is_operator,
            added=setting.read_models,
            full=body.full,
            most=body.most,
            requested_by=principal.actor,
        )
        match answer:
            case Enqueued(job_id=job_id):
                await audit_change(tx, Author(principal.company_id, principal.actor), "drift.run_requested", job_id)
                return Reply(HTTPStatus.ACCEPTED, StartedJob(job_id=job_id), {"Location": f"/api/drift?jobId={job_id}"})
            case AlreadyRunning(job_id=job_id):
                raise ProblemError(HTTPStatus.CONFLICT, "a run of this kind is going on already", job_id=job_id)
            case NothingToCompare(reason=reason):
                raise ProblemError(HTTPStatus.CONFLICT, reason)
            case None:
                raise ProblemError.not_found("read model")
            case _:
                assert_never(answer)

    return await once.answer(work)


def _shown(row: DriftRunRow, found: Sequence[FindingOfRun]) -> DriftRun:
    return DriftRun(
        id=row.id,
        job_id=row.job_id,
        read_model=row.read_model,
        mode=ReconciliationMode(row.mode),
        started_at=row.started_at,
        finished_at=row.finished_at,
        verdict=None if row.verdict is None else Verdict(row.verdict),
        compared=row.compared,
        out_of_sync=row.out_of_sync,
        rate=row.tally.rate,
        errors=row.errors,
        healed=row.healed,
        truncated=row.truncated,
        streak=row.streak,
        promoted=row.promoted,
        error=row.error,
        correlation_id=row.correlation_id,
        keys=[_key(one) for one in found if one.run_id == row.id],
    )


def _key(row: DriftFinding | FindingOfRun) -> DriftedKey:
    return DriftedKey(key=row.key, what=row.what, reason=row.reason)
