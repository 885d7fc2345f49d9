"""The read models that every installation has: the audit, and each directory that was synced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.actions.read_models.audit import AuditReconciler
from service.actions.read_models.directory import DirectoryAccess, DirectoryReconciler
from service.actions.read_models.reconciler import Registry
from service.store.connections import find_directory, list_connections

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database

__all__ = ["built_in_read_models"]

_ACTIVE: Final = "active"


async def built_in_read_models(db: Database, job: RunningJob, access: DirectoryAccess) -> Registry:
    """Reconcilers for one run; a directory that is blocked, archived or was never synced has nothing to agree with."""
    async with db.transaction() as tx:
        active = [one.id for one in await list_connections(tx) if one.status == _ACTIVE]
        found = [await find_directory(tx, connection_id) for connection_id in active]
    synced = [row for row in found if row is not None and row.last_full_sync_at is not None]
    return (AuditReconciler(db), *(DirectoryReconciler(db, job, row, access) for row in synced))
