"""The schedules that every installation has: made, or brought to what the environment says, as a process starts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from service.actions.request_sync import DIRECTORY_SYNC
from service.actions.schedule_sync import SCHEDULED_SYNC
from service.domain.member import CompanyId, ConnectionId
from service.store.schedules import offer_schedule, set_interval

if TYPE_CHECKING:
    from service.store.database import Database

__all__ = ["register_schedules", "register_sync"]


async def register_schedules(db: Database, intervals: Mapping[str, timedelta]) -> None:
    """Let each kind run for the whole installation after its interval; any number of processes may at once. Raises Retry errors."""
    async with db.transaction() as tx:
        # In one order, so that processes that start together wait for each other.
        for kind in sorted(intervals):
            await set_interval(tx, kind, intervals[kind], None, None)


async def register_sync(db: Database, company_id: CompanyId, connection_id: ConnectionId, interval: timedelta) -> None:
    """Let a connection be synced after each interval, unless somebody has said otherwise; raises Retry errors."""
    async with db.transaction() as tx:
        await offer_schedule(tx, DIRECTORY_SYNC, interval, company_id, connection_id, SCHEDULED_SYNC)
