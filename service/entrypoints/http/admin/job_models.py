"""Jobs as they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import Field
from pydantic.alias_generators import to_camel

from service.domain.jobs import JobState
from service.entrypoints.http.admin.api_model import AnswerModel
from service.entrypoints.http.admin.example_ids import CORRELATION, JOB, KEY, REGISTER, SYNC_RUN
from service.store.jobs import JobRow

__all__ = ["Job", "StartedJob", "shown_job"]


class StartedJob(AnswerModel):
    """A job that was queued; `GET /sync/jobs/{id}` says how it goes."""

    job_id: UUID
    state: JobState = JobState.QUEUED

    example: ClassVar[dict[str, Any]] = {"jobId": JOB, "state": "queued"}


class Progress(AnswerModel):
    """How far a job is; what does not apply to its phase is null. The rate is by the second."""

    phase: str | None = None
    fetched: int | None = None
    of: int | None = Field(default=None, description="How many the directory says that it holds.")
    compared: int | None = None
    applied: int | None = None
    to_apply: int | None = None
    rate: float | None = None
    eta_seconds: float | None = None

    example: ClassVar[dict[str, Any]] = {
        "phase": "apply",
        "fetched": 1204,
        "of": 1204,
        "compared": 1204,
        "applied": 3,
        "toApply": 3,
        "rate": 960.5,
        "etaSeconds": 0.0,
    }


class Job(AnswerModel):
    """A job. Its result holds counts, and why it waits where it is quarantined; nobody's data."""

    id: UUID
    kind: str
    subject_id: UUID | None
    state: JobState
    requested_by: str
    parameters: dict[str, Any]
    attempts: int
    progress: Progress | None
    result: dict[str, Any] | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    next_attempt_at: datetime | None
    cancel_requested_at: datetime | None
    correlation_id: str

    example: ClassVar[dict[str, Any]] = {
        "id": JOB,
        "kind": "directory_sync",
        "subjectId": REGISTER,
        "state": "succeeded",
        "requestedBy": f"key:{KEY}",
        "parameters": {"mode": "full", "type": "manual"},
        "attempts": 1,
        "progress": Progress.example,
        "result": {"syncLogId": SYNC_RUN, "status": "success", "fetched": 1204, "added": 1, "updated": 2, "verified": 1201},
        "error": None,
        "createdAt": "2026-12-01T11:30:00Z",
        "startedAt": "2026-12-01T11:30:00.040000Z",
        "finishedAt": "2026-12-01T11:30:01.290000Z",
        "nextAttemptAt": None,
        "cancelRequestedAt": None,
        "correlationId": CORRELATION,
    }


def shown_job(row: JobRow) -> Job:
    """As it is answered."""
    return Job(
        id=row.id,
        kind=row.kind,
        subject_id=row.subject_id,
        state=row.state,
        requested_by=row.requested_by,
        parameters=dict(row.parameters),
        attempts=row.attempts,
        progress=None if row.progress is None else _progress(row.progress),
        result=None if row.result is None else dict(row.result),
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        next_attempt_at=row.next_attempt_at,
        cancel_requested_at=row.cancel_requested_at,
        correlation_id=row.correlation_id,
    )


def _progress(told: Mapping[str, Any]) -> Progress:
    """What jobs of any kind tell; a kind may tell more than is shown."""
    known = {to_camel(name): value for name, value in told.items() if name in Progress.model_fields}
    return Progress.model_validate(known)
