"""Carry committed messages from the outbox to the broker, those of one key in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never
from uuid import UUID

from service.clients.confirm_channel import Confirmed, Nacked, Outcome, Refused, Returned, Unknown
from service.domain.buckets import retry_delay
from service.store.outbox import (
    Refusal,
    claim_messages,
    delete_published,
    discover_keys,
    postpone_refused,
    sweep_keys,
)

if TYPE_CHECKING:
    from service.clients.broker import Publisher
    from service.domain.backlog import Backlog, Key
    from service.domain.outbox import ClaimedMessage
    from service.store.database import Database

__all__ = ["Settlement", "discover", "publish_window", "settle", "sweep"]

# Rows that one discovery reads of a bucket: few where many buckets have work, many where one does.
_ROWS_LEAST = 16
_ROWS_MOST = 2048


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a window and is to be written down: rows confirmed, rows refused, keys to be tried again."""

    confirmed: list[tuple[Key, int]]
    refused: list[tuple[Key, Refusal]]
    unsent: list[Key]


async def discover(database: Database, backlog: Backlog) -> bool:
    """Find keys with rows above the watermarks; answers whether there may be more. Raises Retry errors."""
    buckets = backlog.unread()
    if not buckets:
        return False
    rows = max(_ROWS_LEAST, min(_ROWS_MOST, backlog.room // len(buckets)))
    async with database.transaction() as tx:
        found = await discover_keys(tx, {bucket.number: bucket.watermark for bucket in buckets}, rows)
    seen: dict[int, int] = {}
    read = {bucket.number: bucket for bucket in buckets}
    for key in found:
        seen[key.bucket] = seen.get(key.bucket, 0) + key.rows
        bucket = read[key.bucket]
        # A bucket that was lost or shed meanwhile starts again from nothing when it is owned again.
        if backlog.buckets.get(key.bucket) is bucket and not bucket.shedding:
            bucket.watermark = max(bucket.watermark, key.last)
            backlog.find(key.bucket, key.order_key, key.first, key.last)
    for bucket in buckets:
        bucket.more = seen.get(bucket.number, 0) >= rows
    return any(bucket.more for bucket in buckets)


async def sweep(database: Database, backlog: Backlog) -> None:
    """Find keys with rows at or below the watermarks: committed late, or refused and due again. Raises Retry errors."""
    buckets = backlog.swept()
    if not buckets:
        return
    # Keys that are known anyway come back as well; the limit leaves room for others beside them.
    limit = backlog.known + backlog.room
    async with database.transaction() as tx:
        found = await sweep_keys(tx, {bucket.number: bucket.watermark for bucket in buckets}, limit)
    for key in found:
        backlog.find(key.bucket, key.order_key, key.first, key.last)


async def publish_window(
    database: Database,
    publisher: Publisher,
    backlog: Backlog,
    holder: UUID,
    keys: Sequence[Key],
    monotonic: Callable[[], float],
    jitter: Callable[[], float],
) -> Settlement:
    """Claim the lowest row of each key and publish them; raises Retry errors, and then nothing was published.

    Keys of which nothing can be published now are forgotten. `monotonic` gives seconds, `jitter` numbers in [0, 1).
    """
    by_id = {key.order_key: key for key in keys}
    # Read before anything is awaited: a bucket lost meanwhile, even one taken again, then claims nothing.
    fences = [backlog.buckets[key.bucket].fence for key in keys]
    try:
        async with database.transaction() as tx:
            claimed = await claim_messages(
                tx,
                holder,
                list(by_id),
                [key.bucket for key in keys],
                fences,
                [key.floor for key in keys],
            )
    except BaseException:
        backlog.put_back(keys)
        raise
    rows = {row.order_key: row for row in claimed}
    for key in keys:
        if key.order_key not in rows:
            backlog.forget(key)
    now = monotonic()
    held = [row for row in claimed if backlog.holds(by_id[row.order_key], now)]
    backlog.put_back([by_id[row.order_key] for row in claimed if not backlog.holds(by_id[row.order_key], now)])
    outcomes = await publisher.publish_window(held)
    return _settlement(by_id, held, outcomes, jitter)


async def settle(database: Database, backlog: Backlog, settlement: Settlement) -> None:
    """Write down what became of a window, then let its keys go on; raises Retry errors, and then may be called again."""
    if settlement.confirmed or settlement.refused:
        async with database.transaction() as tx:
            if settlement.confirmed:
                await delete_published(tx, [row for _, row in settlement.confirmed])
            if settlement.refused:
                await postpone_refused(tx, [refusal for _, refusal in settlement.refused])
    for key, row in settlement.confirmed:
        backlog.published(key, row)
    for key, _ in settlement.refused:
        backlog.forget(key)
    backlog.put_back(settlement.unsent)


def _settlement(
    keys: dict[UUID, Key], rows: Sequence[ClaimedMessage], outcomes: Sequence[Outcome], jitter: Callable[[], float]
) -> Settlement:
    settlement = Settlement([], [], [])
    for row, outcome in zip(rows, outcomes, strict=True):
        key = keys[row.order_key]
        match outcome:
            case Confirmed():
                settlement.confirmed.append((key, row.id))
            case Returned(error) | Nacked(error) | Refused(error):
                delay = retry_delay(row.attempts + 1, jitter())
                settlement.refused.append((key, Refusal(row.id, row.attempts, delay, error)))
            case Unknown():
                settlement.unsent.append(key)
            case _:
                assert_never(outcome)
    return settlement
