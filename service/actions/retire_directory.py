"""Take a connection out of use: archived with its members kept, or after a guarded job has removed them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from service.actions.audit_change import Author, audit_change
from service.actions.cancel_job import stop_job
from service.actions.enqueue_job import AlreadyRunning, Enqueued, enqueue_job
from service.actions.request_sync import CONNECTION_REMOVAL, DIRECTORY_SYNC
from service.actions.review_job import reject_job
from service.domain.jobs import JobId, JobState
from service.domain.member import ConnectionId
from service.store.directories import DirectoryView, archive_directory, has_live_members, lock_directory, show_directory
from service.store.jobs import find_active_job, list_jobs_of_subject
from service.store.schedules import stop_schedule
from service.store.sync_log import Review, review_sync

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["Archived", "KeptMembers", "OwnsLiveMembers", "archive", "close_jobs", "keep_members", "remove_members", "retire_unused"]

_MOST: Final = 200


@dataclass(frozen=True, slots=True)
class Archived:
    """Nothing comes from the connection any more."""


@dataclass(frozen=True, slots=True)
class OwnsLiveMembers:
    """Somebody has to say what becomes of the members."""


@dataclass(frozen=True, slots=True)
class KeptMembers:
    """It is archived, and its members were kept: they are nobody's source's any more."""


Retirement: TypeAlias = Archived | OwnsLiveMembers


async def retire_unused(tx: Tx, author: Author, connection_id: ConnectionId) -> Retirement | None:
    """Archive a connection that owns no live members; None where the company has no such one."""
    if not await lock_directory(tx, connection_id, author.company_id):
        return None
    view = await show_directory(tx, connection_id, author.company_id)
    if view is not None and view.status != "archived" and await has_live_members(tx, connection_id):
        return OwnsLiveMembers()
    return await keep_members(tx, author, connection_id)


async def keep_members(tx: Tx, author: Author, connection_id: ConnectionId) -> Archived | None:
    """Archive a connection and leave its members as they are; its jobs are cancelled. None where the company has no such one."""
    if not await lock_directory(tx, connection_id, author.company_id):
        return None
    view = await show_directory(tx, connection_id, author.company_id)
    if view is None or view.status == "archived":
        return Archived()
    await archive(tx, author, view)
    return Archived()


async def archive(tx: Tx, author: Author, view: DirectoryView, *, but: JobId | None = None) -> None:
    """Let nothing come from a locked connection any more: its schedule stops, and its jobs are cancelled, `but` one."""
    await close_jobs(tx, view.id, author.actor, but=but)
    await stop_schedule(tx, DIRECTORY_SYNC, view.id)
    await archive_directory(tx, view.id, author.actor)
    await audit_change(tx, author, "directory.archived", view.id, {"status": {"before": view.status, "after": "archived"}})


async def remove_members(
    tx: Tx, author: Author, connection_id: ConnectionId
) -> Enqueued | AlreadyRunning | Archived | KeptMembers | None:
    """Ask for the removal of all live members of a connection, and its archival after that; None where there is no such one.

    Its syncs are cancelled: they would bring back who is removed.
    """
    if not await lock_directory(tx, connection_id, author.company_id):
        return None
    view = await show_directory(tx, connection_id, author.company_id)
    if view is None or view.status == "archived":
        return KeptMembers() if await has_live_members(tx, connection_id) else Archived()
    if (other := await find_active_job(tx, CONNECTION_REMOVAL, connection_id)) is not None:
        return AlreadyRunning(other)
    await close_jobs(tx, connection_id, author.actor)
    answer = await enqueue_job(
        tx,
        kind=CONNECTION_REMOVAL,
        company_id=author.company_id,
        subject_id=connection_id,
        requested_by=author.actor,
    )
    if isinstance(answer, Enqueued):
        await audit_change(tx, author, "directory.removal_requested", connection_id)
    return answer


async def close_jobs(tx: Tx, connection_id: ConnectionId, by: str, *, but: JobId | None = None) -> None:
    """Cancel what is queued or runs for a connection, and let nothing come of what waits for somebody."""
    for kind in (DIRECTORY_SYNC, CONNECTION_REMOVAL):
        active = await find_active_job(tx, kind, connection_id)
        if active is not None and active != but:
            await stop_job(tx, active)
        for waiting in await list_jobs_of_subject(tx, connection_id, kind, state=JobState.QUARANTINED, limit=_MOST):
            if waiting.id != but:
                await reject_job(tx, JobId(waiting.id), None, "the connection is taken out of use")
                await review_sync(tx, JobId(waiting.id), Review.REJECTED, by)
