"""Jobs: their rows from request to end, and the fenced lease under which one runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from service.domain.jobs import RESEND_AFTER, Job, JobId, JobState, Transition
from service.domain.member import CompanyId
from service.store.queries import queries
from service.store.rows import column_names, columns

if TYPE_CHECKING:
    import asyncpg

    from service.store.database import Tx

__all__ = [
    "ClaimedJob",
    "JobNotice",
    "JobRow",
    "NewJob",
    "PageEnd",
    "claim_job",
    "find_active_job",
    "find_job",
    "hold_job",
    "insert_job",
    "insert_jobs",
    "list_jobs",
    "list_jobs_of_company",
    "list_jobs_of_subject",
    "list_run_slots",
    "lock_due_jobs",
    "lock_job",
    "move_jobs",
    "renew_job",
    "request_cancel",
    "set_job_parameters",
]

_SQL: Final = queries("jobs")
_MOVE_COLUMNS: Final = ("id", "fence", "was", "state", "attempts", "wait", "resend_after", "result", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What is asked for; `subject_id` None is the whole installation, a slot belongs to a schedule."""

    id: JobId
    company_id: CompanyId | None
    kind: str
    subject_id: UUID | None
    parameters: Mapping[str, Any]
    schedule_id: UUID | None
    slot: datetime | None
    requested_by: str
    correlation_id: str
    traceparent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as people see it."""

    id: UUID
    company_id: UUID | None
    kind: str
    subject_id: UUID | None
    parameters: Mapping[str, Any]
    schedule_id: UUID | None
    slot: datetime | None
    requested_by: str
    correlation_id: str
    traceparent: str | None
    state: JobState
    attempts: int
    next_attempt_at: datetime | None
    heartbeat_at: datetime | None
    cancel_requested_at: datetime | None
    progress: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedJob:
    """A job as its worker gets it, under its fence."""

    id: UUID
    company_id: UUID | None
    kind: str
    subject_id: UUID | None
    parameters: Mapping[str, Any]
    requested_by: str
    correlation_id: str
    traceparent: str | None
    attempts: int
    lease_fence: int
    progress: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobNotice:
    """What the message of a job says, and when it became so."""

    id: UUID
    company_id: UUID | None
    kind: str
    subject_id: UUID | None
    correlation_id: str
    traceparent: str | None
    said_at: datetime


_NEW_COLUMNS: Final = column_names(NewJob)


@dataclass(frozen=True, slots=True)
class PageEnd:
    """The last job of a page, below which the next one begins."""

    created_at: datetime
    id: UUID


async def insert_job(tx: Tx, job: NewJob) -> datetime | None:
    """Queue a job whose message is on its way; answers when, None where another stands in its way, even one about to commit."""
    created_at: datetime | None = await tx.fetchval(
        _SQL["insert_job"].sql,
        job.id,
        job.company_id,
        job.kind,
        job.subject_id,
        job.parameters,
        job.schedule_id,
        job.slot,
        job.requested_by,
        job.correlation_id,
        job.traceparent,
        RESEND_AFTER,
    )
    return created_at


async def insert_jobs(tx: Tx, jobs: Sequence[NewJob]) -> list[JobNotice]:
    """Queue jobs whose messages are on their way; those that another one stands in the way of are missing from the answer."""
    records = await tx.fetch(_SQL["insert_jobs"].sql, *columns(_NEW_COLUMNS, jobs), RESEND_AFTER)
    return [JobNotice(**record) for record in records]


async def list_run_slots(tx: Tx, slots: Mapping[UUID, datetime]) -> set[UUID]:
    """The schedules of which this slot has had its job."""
    records = await tx.fetch(_SQL["list_run_slots"].sql, list(slots), list(slots.values()))
    return {record["schedule_id"] for record in records}


async def find_active_job(
    tx: Tx, kind: str, subject_id: UUID | None, schedule_id: UUID | None = None, slot: datetime | None = None
) -> JobId | None:
    """The job of that slot, or the one that is queued or running for that subject."""
    found: UUID | None = await tx.fetchval(_SQL["find_active_job"].sql, kind, subject_id, schedule_id, slot)
    return None if found is None else JobId(found)


async def claim_job(tx: Tx, job_id: JobId, holder: UUID, lease: timedelta) -> ClaimedJob | None:
    """Begin an attempt; None where the job is another's, has ended, or waits for its retry."""
    record = await tx.fetchrow(_SQL["claim_job"].sql, job_id, holder, lease)
    return None if record is None else ClaimedJob(**record)


async def renew_job(tx: Tx, job_id: JobId, fence: int, lease: timedelta, progress: Mapping[str, Any] | None) -> bool | None:
    """Hold the job for `lease` more and note its progress; answers whether it is to be cancelled, None where it is another's."""
    cancel_requested: bool | None = await tx.fetchval(_SQL["renew_job"].sql, job_id, fence, lease, progress)
    return cancel_requested


async def hold_job(tx: Tx, job_id: JobId, fence: int) -> bool:
    """Keep the job from being taken over until this transaction ends; answers no where it has been."""
    return await tx.fetchval(_SQL["hold_job"].sql, job_id, fence) is not None


async def lock_due_jobs(tx: Tx, most: int) -> list[Job]:
    """Lock up to `most` jobs whose lease, wait or message is over, those that nobody else has locked."""
    return [_job(record) for record in await tx.fetch(_SQL["lock_due_jobs"].sql, most)]


async def lock_job(tx: Tx, job_id: JobId, company_id: CompanyId | None = None) -> Job | None:
    """Lock a job, of this company where one is given."""
    record = await tx.fetchrow(_SQL["lock_job"].sql, job_id, company_id)
    return None if record is None else _job(record)


async def move_jobs(tx: Tx, transitions: Sequence[Transition]) -> list[JobNotice]:
    """Let jobs make their steps; those that could not, because somebody else was faster, are missing from the answer."""
    records = await tx.fetch(_SQL["move_jobs"].sql, *columns(_MOVE_COLUMNS, transitions))
    return [JobNotice(**record) for record in records]


async def request_cancel(tx: Tx, job_id: JobId) -> None:
    """Ask the worker of a running job to stop it."""
    await tx.execute(_SQL["request_cancel"].sql, job_id)


async def set_job_parameters(tx: Tx, job_id: JobId, parameters: Mapping[str, Any]) -> None:
    """Change what is asked for; the caller has locked the job."""
    await tx.execute(_SQL["set_job_parameters"].sql, job_id, parameters)


async def find_job(tx: Tx, job_id: JobId, company_id: CompanyId | None = None) -> JobRow | None:
    """A job, of this company where one is given."""
    record = await tx.fetchrow(_SQL["find_job"].sql, job_id, company_id)
    return None if record is None else _row(record)


async def list_jobs(
    tx: Tx, *, kind: str | None = None, state: JobState | None = None, after: PageEnd | None = None, limit: int = 50
) -> list[JobRow]:
    """Jobs of the whole installation, the newest first."""
    return _rows(await tx.fetch(_SQL["list_jobs"].sql, kind, state, *_end(after), limit))


async def list_jobs_of_company(
    tx: Tx,
    company_id: CompanyId,
    *,
    kind: str | None = None,
    state: JobState | None = None,
    after: PageEnd | None = None,
    limit: int = 50,
) -> list[JobRow]:
    """Jobs of one company, the newest first."""
    return _rows(await tx.fetch(_SQL["list_jobs_of_company"].sql, company_id, kind, state, *_end(after), limit))


async def list_jobs_of_subject(
    tx: Tx, subject_id: UUID, kind: str, *, state: JobState | None = None, after: PageEnd | None = None, limit: int = 50
) -> list[JobRow]:
    """Jobs of one kind for one subject, the newest first; the caller knows that the subject is the company's."""
    return _rows(await tx.fetch(_SQL["list_jobs_of_subject"].sql, subject_id, kind, state, *_end(after), limit))


def _end(after: PageEnd | None) -> tuple[datetime | None, UUID | None]:
    return (None, None) if after is None else (after.created_at, after.id)


def _rows(records: Sequence[asyncpg.Record]) -> list[JobRow]:
    return [_row(record) for record in records]


def _row(record: asyncpg.Record) -> JobRow:
    return JobRow(**{**dict(record), "state": JobState(record["state"])})


def _job(record: asyncpg.Record) -> Job:
    return Job(
        id=JobId(record["id"]),
        state=JobState(record["state"]),
        attempts=record["attempts"],
        fence=record["lease_fence"],
        cancel_requested=record["cancel_requested"],
    )
