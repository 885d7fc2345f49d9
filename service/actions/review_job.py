"""Decide what becomes of a quarantined job: somebody approves what it found, or rejects it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.move_jobs import move_jobs
from service.domain import jobs
from service.domain.jobs import JobId, JobState
from service.domain.member import CompanyId
from service.store.jobs import find_active_job, find_job, lock_job, set_job_parameters

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["NotQuarantined", "Rejected", "approve_job", "reject_job"]


@dataclass(frozen=True, slots=True)
class NotQuarantined:
    """There is nothing to decide."""

    state: JobState


@dataclass(frozen=True, slots=True)
class Rejected:
    """The job is cancelled, its result kept."""


Approval: TypeAlias = Enqueued | AlreadyRunning | NotQuarantined


async def approve_job(tx: Tx, job_id: JobId, company_id: CompanyId | None, approved: Mapping[str, Any]) -> Approval | None:
    """Queue a quarantined job anew, with its parameters and what was `approved` over them; None where the company has no such job.

    Raises Contention where another job of the subject is enqueued at the same moment; the next call says so.
    """
    job = await lock_job(tx, job_id, company_id)
    row = await find_job(tx, job_id, company_id)
    if job is None or row is None:
        return None
    anew = jobs.approved(job)
    if anew is None:
        return NotQuarantined(job.state)
    if (other := await find_active_job(tx, row.kind, row.subject_id)) is not None:
        return AlreadyRunning(other)
    await set_job_parameters(tx, job_id, {**row.parameters, **approved})
    await move_jobs(tx, [anew])
    return Enqueued(job_id)


async def reject_job(tx: Tx, job_id: JobId, company_id: CompanyId | None, reason: str) -> Rejected | NotQuarantined | None:
    """Cancel a quarantined job; `reason` holds no personal data. None where the company has no such job."""
    job = await lock_job(tx, job_id, company_id)
    if job is None:
        return None
    rejection = jobs.rejected(job, reason)
    if rejection is None:
        return NotQuarantined(job.state)
    await move_jobs(tx, [rejection])
    return Rejected()
