"""Forget deliveries that ended long ago, and those for which nobody waits any more."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from service.store.deliveries import let_go
from service.store.retention import discard_abandoned_deliveries, discard_ended_deliveries
from service.store.subscribers import lock_lines

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database

__all__ = ["discard_deliveries"]

# Longer than it is looked for versions that were overtaken on their way: what is forgotten would look untold.
_ENDED: Final = timedelta(days=30)
# Of subscribers that are paused or disabled; a removed one's go at once.
_ABANDONED: Final = timedelta(days=90)


async def discard_deliveries(db: Database, job: RunningJob, rows: int) -> int:
    """Discard up to `rows` at a time, and answer how many went; raises Retry errors and StopJob."""
    gone = 0
    while True:
        async with db.transaction() as tx:
            await job.hold(tx)
            some = await discard_ended_deliveries(tx, _ENDED, rows)
        gone += some
        await job.progress(phase="deliveries", discarded=gone)
        if some < rows:
            break
    while True:
        async with db.transaction() as tx:
            await job.hold(tx)
            some, left_behind = await discard_abandoned_deliveries(tx, _ABANDONED, rows)
            if left_behind:
                # What waited for them in its order waits no more.
                await lock_lines(tx, {line.subscriber_id for line in left_behind})
                await let_go(tx, left_behind)
        gone += some
        await job.progress(phase="deliveries", discarded=gone)
        if some < rows:
            return gone
