"""Own a fair share of the outbox's buckets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from service.domain.buckets import fair_share
from service.store import leases
from service.store.outbox import LEASES_CHANGED, wake_relays
from service.telemetry.metrics import UNMEASURED, Metrics

if TYPE_CHECKING:
    from service.domain.backlog import Backlog
    from service.store.database import Database

__all__ = ["hold_buckets", "prepare_buckets", "release_buckets"]


async def prepare_buckets(database: Database) -> None:
    """Make the leases exist; raises Retry errors."""
    async with database.transaction() as tx:
        await leases.insert_bucket_leases(tx)


async def hold_buckets(
    database: Database,
    backlog: Backlog,
    holder: UUID,
    ttl: timedelta,
    monotonic: Callable[[], float],
    metrics: Metrics = UNMEASURED,
) -> bool:
    """Renew what is owned, shed what is over the fair share, take what is free under it; answers whether some are still to be shed.

    `monotonic` gives seconds. Raises Retry errors; the leases held locally end by their deadlines then.
    """
    # Read before the query is sent: the local deadline is never later than the database's. The tenth is for clocks that drift.
    held_until = monotonic() + ttl.total_seconds() * 0.9
    fences = {number: bucket.fence for number, bucket in backlog.buckets.items()}
    idle = {n: fence for n, fence in fences.items() if backlog.buckets[n].shedding and not backlog.is_busy(n)}
    async with database.transaction() as tx:
        is_new = await leases.announce_relay(tx, holder, ttl)
        live = await leases.live_relays(tx)
        released = await leases.release_buckets(tx, holder, idle)
        renewed = await leases.renew_buckets(tx, holder, {n: f for n, f in fences.items() if n not in idle}, ttl)
        share = fair_share(live, holder)
        wanted = max(0, share - len(renewed))
        lapsed = await leases.find_lapsed_buckets(tx) if wanted else set()
        taken = await leases.take_buckets(tx, holder, wanted, ttl)
        if released or is_new:
            # Who lacks buckets takes them now, who has too many learns now that there is one relay more.
            await wake_relays(tx, LEASES_CHANGED)
    for number in fences.keys() - renewed:
        backlog.lose(number)
    for number in renewed:
        backlog.hold(number, fences[number], held_until)
    for number, fence in taken.items():
        backlog.hold(number, fence, held_until)
    metrics.buckets_changed(
        len(backlog.buckets),
        taken=len(taken.keys() - lapsed),
        taken_over=len(taken.keys() & lapsed),
        released=len(released),
        lost=len(fences.keys() - renewed - released),
    )
    return _balance(backlog, share)


async def release_buckets(database: Database, backlog: Backlog, holder: UUID, metrics: Metrics = UNMEASURED) -> None:
    """Hand over at once: free every bucket with nothing in flight and say that this relay has ended; raises Retry errors."""
    idle = {number: bucket.fence for number, bucket in backlog.buckets.items() if not backlog.is_busy(number)}
    async with database.transaction() as tx:
        await leases.release_buckets(tx, holder, idle)
        await leases.withdraw_relay(tx, holder)
        await wake_relays(tx, LEASES_CHANGED)
    for number in idle:
        backlog.lose(number)
    metrics.buckets_changed(len(backlog.buckets), released=len(idle))


def _balance(backlog: Backlog, share: int) -> bool:
    """Mark what is over the share to be shed, take marks back where it is not; answers whether any is marked."""
    shedding = [number for number, bucket in backlog.buckets.items() if bucket.shedding]
    excess = len(backlog.buckets) - share
    for number in shedding[max(0, excess) :]:
        backlog.keep(number)
    owned = [number for number, bucket in backlog.buckets.items() if not bucket.shedding]
    for number in owned[: max(0, excess - len(shedding))]:
        backlog.shed(number)
    return excess > 0
