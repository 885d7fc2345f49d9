"""Ask for a job: its row and its message, in the transaction of whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from uuid_utils.compat import uuid7

from contracts.channels import job_routing_key
from service import translation
from service.domain.errors import Contention
from service.domain.jobs import JobId
from service.domain.member import CompanyId
from service.store.jobs import JobNotice, NewJob, find_active_job, insert_job
from service.store.outbox import insert_outbox
from service.telemetry.handling import handling

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["AlreadyRunning", "Enqueued", "enqueue_job"]

# Whatever was in the way may have ended between the two looks; more than once is not chance.
_LOOKS: Final = 3


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The job is queued once the transaction commits."""

    job_id: JobId


@dataclass(frozen=True, slots=True)
class AlreadyRunning:
    """The subject has that job queued or running, or the slot has had its job."""

    job_id: JobId


async def enqueue_job(
    tx: Tx,
    *,
    kind: str,
    company_id: CompanyId | None,
    subject_id: UUID | None,
    requested_by: str,
    parameters: Mapping[str, Any] | None = None,
    schedule_id: UUID | None = None,
    slot: datetime | None = None,
    correlation_id: str | None = None,
    traceparent: str | None = None,
) -> Enqueued | AlreadyRunning:
    """Queue a job and tell a worker, once the caller's transaction commits; no row and no message where it does not.

    `subject_id` None is the whole installation; `parameters` are plain JSON, without secrets and personal data. The run's
    correlation id and trace are those of what is handled, unless given; the job's own id where there is none. Waits for a
    concurrent transaction that enqueues the same. Raises ValueError for a kind that fits no routing key, UnfitData and Retry
    errors.
    """
    job_routing_key(kind)
    job_id, now = JobId(uuid7()), handling()
    job = NewJob(
        id=job_id,
        company_id=company_id,
        kind=kind,
        subject_id=subject_id,
        parameters=parameters or {},
        schedule_id=schedule_id,
        slot=slot,
        requested_by=requested_by,
        correlation_id=correlation_id or now.correlation_id or str(job_id),
        traceparent=traceparent or now.traced.traceparent,
    )
    for _ in range(_LOOKS):
        created_at = await insert_job(tx, job)
        if created_at is not None:
            queued = JobNotice(
                id=job.id,
                company_id=job.company_id,
                kind=kind,
                subject_id=subject_id,
                correlation_id=job.correlation_id,
                traceparent=job.traceparent,
                said_at=created_at,
            )
            await insert_outbox(tx, [translation.to_job_requested(queued)])
            return Enqueued(job_id)
        if (other := await find_active_job(tx, kind, subject_id, schedule_id, slot)) is not None:
            return AlreadyRunning(other)
    raise Contention("jobs of this subject begin and end too quickly to add another")
