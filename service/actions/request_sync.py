"""Ask for a sync of a connection, in the transaction of whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from service.actions.audit_change import Author, audit_change
from service.actions.enqueue_job import AlreadyRunning, Enqueued, enqueue_job
from service.domain.directories.sync_options import SyncOptions
from service.domain.member import CompanyId, ConnectionId
from service.store.connections import DirectoryRow, find_directory
from service.store.directories import hold_directory
from service.store.jobs import find_active_job

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["CONNECTION_REMOVAL", "DIRECTORY_SYNC", "SyncRefused", "request_sync", "sync_obstacle"]

DIRECTORY_SYNC: Final = "directory_sync"
# What a sync would bring back, the removal takes out again: there is one or the other.
CONNECTION_REMOVAL: Final = "connection_removal"


@dataclass(frozen=True, slots=True)
class SyncRefused:
    """It cannot be synced as things are; `reason` says why and what to do."""

    reason: str


SyncRequest: TypeAlias = Enqueued | AlreadyRunning | SyncRefused


def sync_obstacle(row: DirectoryRow, *, dry_run: bool, enabled: bool) -> str | None:
    """Why the connection is not to be synced, in words; None where it may be. A dry run is hindered by neither switch nor block."""
    if row.status == "archived":
        return "the connection is archived"
    if dry_run:
        return None
    if not enabled:
        return "syncs are switched off (SYNC_ENABLED=false); dry runs are not"
    if row.status == "blocked":
        test = f"rollcall connections test {row.connection_id}"
        return f"the connection is blocked, because its source did not accept the key; mend the key, and `{test}` releases it"
    return None


async def request_sync(
    tx: Tx,
    connection_id: ConnectionId,
    options: SyncOptions,
    *,
    requested_by: str,
    enabled: bool,
    company_id: CompanyId | None = None,
) -> SyncRequest | None:
    """Queue a sync, and note in the audit who asked; None where there is no such directory, or not in this company.

    One sync of a connection runs at a time, a dry run among them. Raises Retry errors.
    """
    # Before it is read: whoever changes what its records mean first sees that nobody is about to read them.
    await hold_directory(tx, connection_id)
    row = await find_directory(tx, connection_id)
    if row is None or (company_id is not None and row.company_id != company_id):
        return None
    obstacle = sync_obstacle(row, dry_run=options.dry_run, enabled=enabled)
    if obstacle is not None:
        return SyncRefused(obstacle)
    if not options.dry_run and (removal := await find_active_job(tx, CONNECTION_REMOVAL, connection_id)) is not None:
        return AlreadyRunning(removal)
    answer = await enqueue_job(
        tx,
        kind=DIRECTORY_SYNC,
        company_id=row.company_id,
        subject_id=connection_id,
        requested_by=requested_by,
        parameters=options.to_parameters(),
    )
    if isinstance(answer, Enqueued):
        action = "directory.dry_run_requested" if options.dry_run else "directory.sync_requested"
        await audit_change(tx, Author(CompanyId(row.company_id), requested_by), action, connection_id)
    return answer
