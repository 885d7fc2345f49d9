"""Decide what becomes of a quarantined sync: its removals are approved or rejected, or a newer sync knows better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.request_sync import SyncRefused, sync_obstacle
from service.actions.review_job import NotQuarantined, Rejected, approve_job, reject_job
from service.domain.jobs import JobId
from service.domain.member import CompanyId, ConnectionId
from service.store.connections import find_directory
from service.store.sync_log import Review, SyncStatus, find_last_sync_of_job, list_open_quarantines, review_sync

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["approve_sync", "reject_sync", "supersede_syncs"]


async def approve_sync(
    tx: Tx, job_id: JobId, company_id: CompanyId | None, reviewed_by: str, *, enabled: bool
) -> Enqueued | AlreadyRunning | NotQuarantined | SyncRefused | None:
    """Let the job run again: it reads the directory anew and may remove whom its list names, and nobody else.

    None where the company has no such job. Where syncs are switched off, or the connection may not be asked, the list stays as it
    is, to be approved when that has changed. Raises Retry errors.
    """
    run = await find_last_sync_of_job(tx, job_id)
    if run is not None and run.status == SyncStatus.QUARANTINED and company_id in (None, run.company_id):
        row = await find_directory(tx, ConnectionId(run.connection_id))
        obstacle = None if row is None else sync_obstacle(row, dry_run=run.dry_run, enabled=enabled)
        if obstacle is not None and run.review is None:
            return SyncRefused(obstacle)
    approval = await approve_job(tx, job_id, company_id, {} if run is None else {"approved": str(run.id)})
    if isinstance(approval, Enqueued):
        await review_sync(tx, job_id, Review.APPROVED, reviewed_by)
    return approval


async def reject_sync(tx: Tx, job_id: JobId, company_id: CompanyId | None, reviewed_by: str) -> Rejected | NotQuarantined | None:
    """Let nothing come of a quarantined sync; None where the company has no such job."""
    rejection = await reject_job(tx, job_id, company_id, "its removals were rejected")
    if isinstance(rejection, Rejected):
        await review_sync(tx, job_id, Review.REJECTED, reviewed_by)
    return rejection


async def supersede_syncs(tx: Tx, connection_id: ConnectionId, by: JobId) -> None:
    """Let nothing come of the connection's quarantined syncs: a newer one has all that they had."""
    for job_id in await list_open_quarantines(tx, connection_id):
        if job_id != by:
            await reject_job(tx, job_id, None, f"superseded by the sync of job {by}")
            await review_sync(tx, job_id, Review.SUPERSEDED, f"job:{by}")
