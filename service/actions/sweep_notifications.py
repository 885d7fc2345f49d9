"""Find events of which no message reached the notifier: with a broker, a binding or a queue it may be lost.

The audit has every event, and so the message is a hint, as that of a job is.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from service import translation
from service.actions.enqueue_deliveries import add_deliveries
from service.store.sweeps import end_sweep, find_sweep_end, list_missed_events, lock_sweep

if TYPE_CHECKING:
    from service.store.database import Database

__all__ = ["ON_ITS_WAY", "sweep_notifications"]

# Longer than a message is usually on its way, and than any transaction that wrote a version before it was seen.
ON_ITS_WAY: Final = timedelta(minutes=5)
_VERSIONS: Final = 2000

_log: Final = structlog.get_logger(__name__)


async def sweep_notifications(db: Database, *, on_its_way: timedelta = ON_ITS_WAY, most: int = _VERSIONS) -> tuple[bool, int]:
    """Look through the next versions; answers whether there is more at once, and how many deliveries were missing.

    Raises Retry errors.
    """
    async with db.transaction() as tx:
        swept_to = await lock_sweep(tx)
        if swept_to is None:
            return False, 0
        end = await find_sweep_end(tx, swept_to, most, on_its_way)
        if end == swept_to:
            return False, 0
        missed = await list_missed_events(tx, swept_to, end)
        added = await add_deliveries(tx, [translation.to_told(event) for event in missed]) if missed else 0
        await end_sweep(tx, end)
    if added:
        _log.warning("events had not reached the notifier, their subscribers are told now", events=len(missed), deliveries=added)
    return end - swept_to >= most, added
