"""The outbox: messages committed with what they tell of, until the relay has published them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from service.domain.outbox import ClaimedMessage
from service.store.queries import queries
from service.store.rows import column_names, columns

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "CHANNEL",
    "LEASES_CHANGED",
    "Found",
    "OutboxRow",
    "Refusal",
    "claim_messages",
    "delete_published",
    "discover_keys",
    "insert_outbox",
    "postpone_refused",
    "sweep_keys",
    "wake_relays",
]

# Where writers say that they committed messages, and relays that they freed or want buckets.
CHANNEL: Final = "rollcall_outbox"
LEASES_CHANGED: Final = "leases"


_SQL: Final = queries("outbox")
_INSERT: Final = _SQL["insert_outbox"].sql


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """A whole message; messages of one `order_key` leave in the order in which they were inserted."""

    order_key: UUID
    exchange: str
    routing_key: str
    type: str
    message_id: str
    correlation_id: str
    headers: Mapping[str, str]
    body: str
    occurred_at: datetime


_COLUMNS: Final = column_names(OutboxRow)


async def insert_outbox(tx: Tx, rows: Sequence[OutboxRow]) -> None:
    """Leave messages for the relay, which the commit wakes. The caller has locked what they are about."""
    await tx.execute(_INSERT, *columns(_COLUMNS, rows))


@dataclass(frozen=True, slots=True)
class Found:
    """A key with work: `first` and `last` are the lowest and highest of the `rows` rows that were seen."""

    bucket: int
    order_key: UUID
    first: int
    last: int
    rows: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that the broker did not take: why, how often before, and how long it waits now."""

    id: int
    attempts: int
    delay: timedelta
    error: str


async def discover_keys(tx: Tx, watermarks: Mapping[int, int], rows: int) -> list[Found]:
    """The keys of up to `rows` rows above the watermark of each bucket, lowest row first."""
    await tx.execute(_SQL["prefer_indexes"].sql)
    records = await tx.fetch(_SQL["discover_keys"].sql, list(watermarks), list(watermarks.values()), rows)
    return [Found(*record) for record in records]


async def sweep_keys(tx: Tx, watermarks: Mapping[int, int], keys: int) -> list[Found]:
    """Up to `keys` keys with rows at or below the watermark of their bucket, none of which has to wait."""
    await tx.execute(_SQL["prefer_indexes"].sql)
    records = await tx.fetch(_SQL["sweep_keys"].sql, list(watermarks), list(watermarks.values()), keys)
    return [Found(*record) for record in records]


async def claim_messages(
    tx: Tx, holder: UUID, keys: Sequence[UUID], buckets: Sequence[int], fences: Sequence[int], floors: Sequence[int]
) -> list[ClaimedMessage]:
    """The lowest row of each key that may be sent now; of a bucket whose lease is not `holder`'s under this fence, nothing."""
    await tx.execute(_SQL["prefer_indexes"].sql)
    records = await tx.fetch(_SQL["claim_messages"].sql, holder, keys, buckets, fences, floors)
    return [ClaimedMessage(*record) for record in records]


async def delete_published(tx: Tx, ids: Sequence[int]) -> None:
    """Remove rows that the broker has confirmed."""
    await tx.execute(_SQL["delete_published"].sql, ids)


async def postpone_refused(tx: Tx, refusals: Sequence[Refusal]) -> None:
    """Count one more attempt of each row and let it, and with it its key, wait."""
    names = ("id", "attempts", "delay", "error")
    await tx.execute(_SQL["postpone_refused"].sql, *columns(names, refusals))


async def wake_relays(tx: Tx, reason: str) -> None:
    """Tell every listening relay when this commits: LEASES_CHANGED, or anything else for new messages."""
    await tx.execute(_SQL["wake_relays"].sql, reason)
