"""Remove all live members of a connection, in batches, and archive it; more than its removal guard lets pass must be approved."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final

from service.actions.apply_changes import apply_changes
from service.actions.audit_change import Author
from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.request_sync import DIRECTORY_SYNC
from service.actions.retire_directory import archive
from service.actions.review_job import NotQuarantined, approve_job
from service.domain.change import Cause, Change, Reason, UpstreamRemoval, VersionKind
from service.domain.directories.guard import Held, guard_removals
from service.domain.errors import Contention, Park
from service.domain.jobs import JobId, JobResult
from service.domain.member import CompanyId, ConnectionId
from service.domain.outcome import Outcome, Result
from service.store.clock import read_clock
from service.store.connections import removal_limits
from service.store.directories import (
    DirectoryView,
    LiveMember,
    has_live_members,
    list_live_members,
    lock_directory,
    show_directory,
)
from service.store.jobs import find_active_job, find_job
from service.store.members import count_live_members
from service.translation import REMOVAL_HASH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.actions.running_job import RunningJob
    from service.store.database import Database, Tx

__all__ = ["approve_removal", "remove_connection"]

_BATCH: Final = 500
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def approve_removal(tx: Tx, job_id: JobId, company_id: CompanyId | None) -> Enqueued | AlreadyRunning | NotQuarantined | None:
    """Let a quarantined removal run: as many members as it has counted, and no more. None where the company has no such job."""
    row = await find_job(tx, job_id, company_id)
    approved = 0 if row is None or row.result is None else row.result.get("removals", 0)
    return await approve_job(tx, job_id, company_id, {"approved": approved})


async def remove_connection(db: Database, job: RunningJob, *, default_grace_days: int) -> JobResult:
    """One attempt of a `connection_removal` job, whose subject is a connection; raises Park, Retry errors and StopJob.

    A source that goes on telling of members while this runs is removed after as well: the end is reached when nobody is live.
    """
    view = await _begun(db, job)
    if view.status == "archived":
        return JobResult.succeeded({"removed": 0})
    held, live = await _held(db, job, view.id)
    if held is not None:
        return JobResult.quarantined({"held": held.reason, "removals": live})
    began, removed = monotonic(), 0
    while not await _archived(db, job, view):
        counts = await _remove_all(db, job, view, default_grace_days, removed, live, began)
        if not counts[Outcome.APPLIED]:
            raise Contention("members of the connection are told of faster than they are removed")
        removed += counts[Outcome.APPLIED]
    return JobResult.succeeded({"removed": removed})


async def _begun(db: Database, job: RunningJob) -> DirectoryView:
    if job.subject_id is None or job.company_id is None:
        raise Park("a removal is of a connection, and the job names none")
    connection_id = ConnectionId(job.subject_id)
    async with db.transaction() as tx:
        await job.hold(tx)
        view = await show_directory(tx, connection_id, job.company_id)
        if view is None:
            raise Park("there is no such connection")
        if await find_active_job(tx, DIRECTORY_SYNC, connection_id) is not None:
            raise Contention("a sync of the connection has not stopped yet")
    return view


async def _held(db: Database, job: RunningJob, connection_id: ConnectionId) -> tuple[Held | None, int]:
    """Why somebody has to look first, and how many members there are."""
    async with db.transaction() as tx:
        live = await count_live_members(tx, connection_id)
        limits = await removal_limits(tx, connection_id)
    # What an earlier attempt of this run has removed was let pass.
    if live == 0 or job.told.get("applied"):
        return None, live
    approved = job.parameters.get("approved")
    if approved is not None:
        more = isinstance(approved, int) and live > approved
        return (Held(f"{live:,} members are live now, and {approved:,} removals were approved") if more else None), live
    verdict = guard_removals(live=live, removals=live, source_is_empty=False, limits=limits)
    return (verdict if isinstance(verdict, Held) else None), live


async def _remove_all(
    db: Database, job: RunningJob, view: DirectoryView, default_grace_days: int, before: int, live: int, began: float
) -> Counter[Outcome]:
    """One pass over the live members."""
    counts: Counter[Outcome] = Counter()
    after = ""
    while True:
        async with db.transaction() as tx:
            read_at = await read_clock(tx)
            members = await list_live_members(tx, view.id, after, _BATCH)
        if not members:
            return counts
        after = members[-1].external_id
        changes = [_removal(job, view, member, read_at) for member in members]

        async def held(tx: Tx, _: Sequence[Change], __: Sequence[Result]) -> None:
            await job.hold(tx)

        results = await apply_changes(db, changes, default_grace_days=default_grace_days, alongside=held)
        counts += Counter(result.outcome for result in results)
        done = before + counts[Outcome.APPLIED]
        rate = done / max(monotonic() - began, 0.001)
        left = max(0, live - done)
        await job.progress(
            phase="apply",
            applied=done,
            to_apply=live,
            rate=round(rate, 1),
            eta_seconds=round(left / rate, 1) if rate else None,
        )


def _removal(job: RunningJob, view: DirectoryView, member: LiveMember, read_at: datetime) -> UpstreamRemoval:
    """As of a snapshot that lacks the member: as new as what is known, and older than what the source tells from now on."""
    version = member.source_version or 0
    of_time = VersionKind(view.version_kind) is VersionKind.UPDATED_AT
    return UpstreamRemoval(
        company_id=CompanyId(view.company_id),
        connection_id=ConnectionId(view.id),
        external_id=member.external_id,
        source_version=version,
        updated_at=_EPOCH + timedelta(microseconds=version) if of_time else read_at,
        source_hash=REMOVAL_HASH,
        cause=Cause(Reason.ADMIN, job.requested_by, job.correlation_id, job.traceparent),
        from_snapshot=True,
        snapshot_began_at=read_at,
    )


async def _archived(db: Database, job: RunningJob, view: DirectoryView) -> bool:
    """Archive the connection, where nobody of it is live any more; answers whether it is done."""
    async with db.transaction() as tx:
        await job.hold(tx)
        # Whoever stores a new member of it waits, or is waited for: a member refers to this row.
        await lock_directory(tx, view.id, CompanyId(view.company_id))
        if await has_live_members(tx, view.id):
            return False
        await archive(tx, Author(CompanyId(view.company_id), job.requested_by), view, but=job.id)
    return True
