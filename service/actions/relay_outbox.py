"""Carry committed messages from the outbox to the broker, those of one key in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import time
from typing import TYPE_CHECKING, Final, assert_never
from uuid import UUID

from service.clients.confirm_channel import Confirmed, Nacked, Outcome, Refused, Returned, Unknown
from service.domain.backoff import Backoff
from service.store.outbox import (
    Claim,
    Found,
    Refusal,
    Span,
    claim_messages,
    delete_published,
    discover_keys,
    find_due_keys,
    postpone_refused,
    sweep_keys,
)
from service.telemetry.metrics import UNMEASURED, Metrics

if TYPE_CHECKING:
    from service.actions.trace_window import PublishesWindows
    from service.domain.backlog import Backlog, Key
    from service.domain.outbox import ClaimedMessage
    from service.store.database import Database

__all__ = ["Round", "Settlement", "discover", "find_due", "publish_window", "settle", "sweep_recent", "sweep_round"]

# Rows that one discovery reads of a bucket: few where many buckets have work, many where one does.
_ROWS_LEAST = 16
_ROWS_MOST = 2048
# Rows that one look below the watermarks, or at the refused, reads in all buckets together.
_ROWS_SWEPT: Final = 5000
# A transaction that commits late has mostly taken its ids not long ago: so far below the watermarks every commit makes look.
_RECENT_IDS: Final = 5000
# Of a bucket the refused rows are read in so many parts, by how often they were refused.
_LEVELS: Final = 4
_WORDS: Final[dict[type[Outcome], str]] = {
    Confirmed: "confirmed",
    Returned: "returned",
    Nacked: "nacked",
    Refused: "refused",
    Unknown: "unknown",
}
# How long a refused message waits for its next try.
_RETRY: Final = Backoff(timedelta(seconds=1), timedelta(seconds=60))


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
    async with database.statement() as tx:
        found = await discover_keys(tx, {bucket.number: bucket.watermark for bucket in buckets}, rows)
    seen: dict[int, int] = {}
    read = {bucket.number: bucket for bucket in buckets}
    for key in found:
        seen[key.bucket] = seen.get(key.bucket, 0) + key.rows
        bucket = read[key.bucket]
        # A bucket that was lost or shed meanwhile starts again from nothing when it is owned again.
        if backlog.buckets.get(key.bucket) is bucket and not bucket.shedding:
            bucket.watermark = max(bucket.watermark, key.last)
            # A blocked key comes when its refused row is due, with all its rows.
            if not key.is_blocked or backlog.knows(key.order_key):
                backlog.find(key.bucket, key.order_key, key.first, key.last)
    for bucket in buckets:
        bucket.more = seen.get(bucket.number, 0) >= rows
    return any(bucket.more for bucket in buckets)


@dataclass(frozen=True, slots=True)
class Round:
    """How the sweep's round stands: whether it goes on, and whether most of what was read was news."""

    goes_on: bool
    is_fruitful: bool


async def sweep_recent(database: Database, backlog: Backlog) -> None:
    """Find keys with rows a little below the watermarks, where late commits mostly lie. Raises Retry errors."""
    buckets = backlog.read()
    if buckets:
        spans = [Span(bucket.number, max(0, bucket.watermark - _RECENT_IDS), bucket.watermark) for bucket in buckets]
        await _sweep(database, backlog, spans, max(1, _ROWS_SWEPT // len(buckets)))


async def sweep_round(database: Database, backlog: Backlog) -> Round:
    """Look at the next rows of the round through all that lies below the watermarks; raises Retry errors.

    A pass reads a bounded number of rows. Who is through with a bucket leaves it until a new round, so that the rest of the
    round has more rows for each of the others.
    """
    buckets = backlog.unswept()
    if not buckets:
        return Round(goes_on=False, is_fruitful=False)
    rows = max(1, min(_ROWS_SWEPT, backlog.room) // len(buckets))
    found, news = await _sweep(database, backlog, [Span(b.number, b.swept, b.watermark) for b in buckets], rows)
    seen: dict[int, int] = {}
    swept: dict[int, int] = {}
    for key in found:
        seen[key.bucket] = seen.get(key.bucket, 0) + key.rows
        swept[key.bucket] = max(swept.get(key.bucket, 0), key.last)
    for bucket in buckets:
        bucket.is_swept = seen.get(bucket.number, 0) < rows
        bucket.swept = swept.get(bucket.number, bucket.swept)
    return Round(goes_on=not all(bucket.is_swept for bucket in buckets), is_fruitful=news * 2 > rows * len(buckets))


async def _sweep(database: Database, backlog: Backlog, spans: Sequence[Span], rows: int) -> tuple[list[Found], int]:
    async with database.statement() as tx:
        found = await sweep_keys(tx, spans, rows)
    news = 0
    for key in found:
        is_known = backlog.knows(key.order_key)
        # A blocked key comes back when its refused row is due, and one for which there is no room in the next round.
        if is_known or (backlog.room and not key.is_blocked):
            backlog.find(key.bucket, key.order_key, key.first, key.last)
            news += not is_known
    return found, news


async def find_due(database: Database, backlog: Backlog) -> bool:
    """Find keys whose refused row may be offered again, as many as allowed; answers whether any was news. Raises Retry errors."""
    buckets = [bucket.number for bucket in backlog.buckets.values() if not bucket.shedding]
    if not buckets or not backlog.retry_room:
        return False
    # Keys that are known already come back as well; the limit leaves room for others beside them.
    keys = backlog.retrying + backlog.retry_room
    # Hashed keys lie evenly in the buckets: twice their share of what is wanted is enough.
    rows = max(1, min(_ROWS_SWEPT // (len(buckets) * _LEVELS), 1 + 2 * keys // len(buckets)))
    async with database.statement() as tx:
        due = await find_due_keys(tx, buckets, rows, keys)
    taken = [backlog.retry(key.bucket, key.order_key, key.last) for key in due]
    if not any(taken):
        backlog.count_retries(0, 0)
    return any(taken)


async def publish_window(
    database: Database,
    publisher: PublishesWindows,
    backlog: Backlog,
    holder: UUID,
    keys: Sequence[Key],
    monotonic: Callable[[], float],
    jitter: Callable[[], float],
    metrics: Metrics = UNMEASURED,
) -> Settlement:
    """Claim the lowest row of each key and publish them; raises Retry errors, and then nothing was published.

    Keys of which nothing can be published now are forgotten. `monotonic` gives seconds, `jitter` numbers in [0, 1).
    """
    by_id = {key.order_key: key for key in keys}
    # Read before anything is awaited: a bucket lost meanwhile, even one taken again, then claims nothing.
    claims = [Claim(key.order_key, key.bucket, backlog.buckets[key.bucket].fence, key.floor, is_retry=key.is_retry) for key in keys]
    asked = monotonic()
    try:
        async with database.statement() as tx:
            claimed = await claim_messages(tx, holder, claims)
    except BaseException:
        backlog.put_back(keys)
        raise
    rows = {row.order_key: row for row in claimed}
    for key in keys:
        if key.order_key not in rows:
            backlog.forget(key)
    now = monotonic()
    metrics.window_claimed(now - asked)
    held = [row for row in claimed if backlog.holds(by_id[row.order_key], now)]
    backlog.put_back([by_id[row.order_key] for row in claimed if not backlog.holds(by_id[row.order_key], now)])
    outcomes = await publisher.publish_window(held)
    _count(metrics, held, outcomes, monotonic() - now)
    return _settlement(by_id, held, outcomes, jitter)


def _count(metrics: Metrics, rows: Sequence[ClaimedMessage], outcomes: Sequence[Outcome], seconds: float) -> None:
    if rows:
        now = time()
        delays = (
            now - row.occurred_at.timestamp() for row, outcome in zip(rows, outcomes, strict=True) if isinstance(outcome, Confirmed)
        )
        metrics.window_published((_WORDS[type(outcome)] for outcome in outcomes), delays, seconds)


async def settle(database: Database, backlog: Backlog, settlement: Settlement) -> None:
    """Write down what became of a window, then let its keys go on; raises Retry errors, and then may be called again."""
    # Each for itself: what one of them has done is not done again by its repetition.
    if settlement.confirmed:
        async with database.statement() as tx:
            await delete_published(tx, [row for _, row in settlement.confirmed])
    if settlement.refused:
        async with database.statement() as tx:
            await postpone_refused(tx, [refusal for _, refusal in settlement.refused])
    taken = sum(key.is_retry for key, _ in settlement.confirmed)
    refused = sum(key.is_retry for key, _ in settlement.refused)
    if taken or refused:
        backlog.count_retries(taken, refused)
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
                delay = _RETRY.after(row.attempts + 1, jitter)
                settlement.refused.append((key, Refusal(row.id, row.attempts, delay, error)))
            case Unknown():
                settlement.unsent.append(key)
            case _:
                assert_never(outcome)
    return settlement
