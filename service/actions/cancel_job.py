"""Cancel a job: at once while it is queued, at its next stop point while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from service.actions.audit_change import audit_job
from service.actions.move_jobs import move_jobs
from service.domain import jobs
from service.domain.jobs import CancelAsked, Cancellation, Ended, JobId, Transition
from service.domain.member import CompanyId
from service.store.jobs import lock_job, request_cancel

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["cancel_job", "stop_job"]


async def cancel_job(tx: Tx, job_id: JobId, company_id: CompanyId | None, cancelled_by: str) -> Cancellation | None:
    """Stop a job and note in its company's audit who wanted that; None where the company has no such job.

    `company_id` None is all companies. A job of the whole installation is in nobody's audit.
    """
    cancellation = await stop_job(tx, job_id, company_id)
    if isinstance(cancellation, Transition | CancelAsked):
        await audit_job(tx, job_id, cancelled_by, "job.cancelled")
    return cancellation


async def stop_job(tx: Tx, job_id: JobId, company_id: CompanyId | None = None) -> Cancellation | None:
    """Cancel a queued job, ask the worker of a running one to stop it; None where the company has no such job.

    As a part of something that is itself in the audit.
    """
    job = await lock_job(tx, job_id, company_id)
    if job is None:
        return None
    cancellation = jobs.cancelled(job)
    match cancellation:
        case Transition():
            await move_jobs(tx, [cancellation])
        case CancelAsked():
            await request_cancel(tx, job_id)
        case Ended():
            return cancellation
        case _:
            assert_never(cancellation)
    return cancellation
