"""The schedules by which every installation compares its read models, unless somebody has made others of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.actions.reconcile_drift import DRIFT_FULL, DRIFT_SAMPLED
from service.domain.schedule import cron, next_slot
from service.store.clock import read_clock
from service.store.schedules import offer_cron_schedule

if TYPE_CHECKING:
    from service.store.database import Database

__all__ = ["register_drift"]

_RHYTHMS: Final = {
    # Every night, and on Sundays all of it.
    DRIFT_SAMPLED: cron("17 3 * * *", "UTC"),
    DRIFT_FULL: cron("30 4 * * 0", "UTC"),
}


async def register_drift(db: Database) -> None:
    """Add both schedules, each due at its next time of day; any number of processes may at once. Raises Retry errors."""
    async with db.transaction() as tx:
        now = await read_clock(tx)
        # In one order, so that processes that start together wait for each other.
        for kind in sorted(_RHYTHMS):
            await offer_cron_schedule(tx, kind, _RHYTHMS[kind], next_slot(_RHYTHMS[kind], now), None, None)
