"""Let a connection be synced again and again, or no more by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from service.actions.audit_change import Author, audit_change, differences
from service.actions.request_sync import DIRECTORY_SYNC
from service.domain.directories.sync_options import SyncMode, SyncOptions, SyncType
from service.domain.member import ConnectionId
from service.store.directories import lock_directory, show_directory
from service.store.schedules import set_interval, set_mode, stop_schedule

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["SCHEDULED_SYNC", "SHORTEST_SYNC_INTERVAL", "NotScheduled", "Scheduled", "choose_sync_mode", "schedule_sync"]

# In minutes.
SHORTEST_SYNC_INTERVAL: Final = 5
# Full ones, until somebody chooses otherwise: incremental syncs cannot see who is gone.
SCHEDULED_SYNC: Final = SyncOptions(type=SyncType.MEMBERSHIP).to_parameters()
_PUSHED: Final = "scim"
_MINUTE: Final = timedelta(minutes=1)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Scheduled:
    """It is synced after each interval from now on; None: no more by itself."""

    minutes: int | None


@dataclass(frozen=True, slots=True)
class NotScheduled:
    """It cannot be; `reason` says why."""

    reason: str


async def schedule_sync(
    tx: Tx, author: Author, connection_id: ConnectionId, minutes: int | None
) -> Scheduled | NotScheduled | None:
    """Sync a connection every so many minutes, at once where it is new; None where the company has no such connection.

    In which mode stays as it was chosen, also while it is not synced by itself.

    Raises ValueError for fewer than five minutes, and Retry errors.
    """
    if minutes is not None and minutes < SHORTEST_SYNC_INTERVAL:
        message = f"an interval is {SHORTEST_SYNC_INTERVAL} minutes or more"
        raise ValueError(message)
    if not await lock_directory(tx, connection_id, author.company_id):
        return None
    connection = await show_directory(tx, connection_id, author.company_id)
    if connection is None:
        return None
    if minutes is not None:
        if connection.kind == _PUSHED:
            return NotScheduled("the source pushes its members (SCIM), nobody asks it")
        if connection.directory is None:
            return NotScheduled("the connection's source is not asked: it tells by itself")
        if connection.status == "archived":
            return NotScheduled("the connection is archived")
        await set_interval(tx, DIRECTORY_SYNC, minutes * _MINUTE, author.company_id, connection_id, SCHEDULED_SYNC)
    else:
        await stop_schedule(tx, DIRECTORY_SYNC, connection_id)
    before = connection.sync_interval_ms
    told = {"autoSyncIntervalMinutes": None if before is None else before * _MILLISECOND // _MINUTE}
    if changed := differences(told, {"autoSyncIntervalMinutes": minutes}):
        await audit_change(tx, author, "directory.scheduled", connection_id, changed)
    return Scheduled(minutes)


async def choose_sync_mode(tx: Tx, author: Author, connection_id: ConnectionId, mode: SyncMode) -> SyncMode | NotScheduled | None:
    """Let the schedule of a connection ask for all members, or for those that changed; None where the company has no such one.

    An incremental one is full all the same once a day, and where the source cannot tell what changed. Raises Retry errors.
    """
    if not await lock_directory(tx, connection_id, author.company_id):
        return None
    connection = await show_directory(tx, connection_id, author.company_id)
    if connection is None:
        return None
    # Without a schedule syncs are full ones when it begins: that much is so already.
    if not await set_mode(tx, DIRECTORY_SYNC, connection_id, mode) and mode is not SyncMode.FULL:
        return NotScheduled("the directory has no schedule yet: autoSyncIntervalMinutes gives it one")
    if changed := differences({"syncMode": connection.sync_mode}, {"syncMode": mode.value}):
        await audit_change(tx, author, "directory.scheduled", connection_id, changed)
    return mode
