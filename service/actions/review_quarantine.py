"""Decide what becomes of a quarantined job, whatever its kind: a sync goes by the list that it has, a removal by its count."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        return await approve_removal(tx, job_id, company_id)
    return await approve_sync(tx, job_id, company_id, reviewed_by, enabled=enabled)


async def reject_quarantined(
    tx: Tx, job_id: JobId, company_id: CompanyId | None, reviewed_by: str
) -> Rejected | NotQuarantined | None:
    """Let nothing come of it: it is cancelled, its result kept. None where the company has no such job."""
    # Of a removal there is no run in the syncs' log, and no review to note.
    return await reject_sync(tx, job_id, company_id, reviewed_by)
