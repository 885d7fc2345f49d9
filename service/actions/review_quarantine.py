"""Decide what becomes of a quarantined job, whatever its kind, and note in the audit who did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.actions.audit_change import audit_job
from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.remove_connection import approve_removal
from service.actions.request_sync import CONNECTION_REMOVAL, SyncRefused
from service.actions.review_job import NotQuarantined, Rejected
from service.actions.review_sync import approve_sync, reject_sync
from service.domain.jobs import JobId
from service.domain.member import CompanyId
from service.store.jobs import find_job

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["approve_quarantined", "reject_quarantined"]


async def approve_quarantined(
    tx: Tx, job_id: JobId, company_id: CompanyId | None, reviewed_by: str, *, enabled: bool
) -> Enqueued | AlreadyRunning | NotQuarantined | SyncRefused | None:
    """Let the job run again: a sync may remove whom its list names, a removal as many as it has counted, and nobody else.

    None where the company has no such job; `company_id` None is all companies. `enabled` is of syncs alone. Raises Retry errors.
    """
    row = await find_job(tx, job_id, company_id)
    if row is None:
        return None
    if row.kind == CONNECTION_REMOVAL:
        answer: Enqueued | AlreadyRunning | NotQuarantined | SyncRefused | None = await approve_removal(tx, job_id, company_id)
    else:
        answer = await approve_sync(tx, job_id, company_id, reviewed_by, enabled=enabled)
    if isinstance(answer, Enqueued):
        await audit_job(tx, job_id, reviewed_by, "job.approved")
    return answer


async def reject_quarantined(
    tx: Tx, job_id: JobId, company_id: CompanyId | None, reviewed_by: str
) -> Rejected | NotQuarantined | None:
    """Let nothing come of it: it is cancelled, its result kept. None where the company has no such job."""
    # Of a removal there is no run in the syncs' log, and no review to note.
    answer = await reject_sync(tx, job_id, company_id, reviewed_by)
    if isinstance(answer, Rejected):
        await audit_job(tx, job_id, reviewed_by, "job.rejected")
    return answer
