"""The outbox: messages committed with what they tell of, until the relay has published them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from service.domain.outbox import ClaimedMessage
from service.store.copying import COPY_FROM, copy_rows
from service.store.queries import queries
from service.store.rows import column_names, columns, tuples

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "CHANNEL",
    "LEASES_CHANGED",
    "Backlog",
    "Claim",
    "Committed",
    "Due",
    "Found",
    "OutboxRow",
    "Refusal",
    "RefusalReason",
    "Span",
    "claim_messages",
    "committed_rows",
    "delete_published",
    "discover_keys",
    "find_due_keys",
    "insert_outbox",
    "list_refusals",
    "measure_backlog",
    "postpone_refused",
    "read_backlog",
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
    """Leave messages for the relay, which the commit wakes and tells of them. The caller has locked what they are about."""
    if len(rows) < COPY_FROM:
        await tx.execute(_INSERT, *columns(_COLUMNS, rows))
    else:
        await copy_rows(tx, "outbox", _COLUMNS, tuples(_COLUMNS, rows))
        # Too many for a word that names them.
        await wake_relays(tx, "")


@dataclass(frozen=True, slots=True)
class Committed:
    """A row that a notification named."""

    bucket: int
    order_key: UUID
    id: int


def committed_rows(payload: str) -> list[Committed] | None:
    """The rows that a notification names; None where it only says that there are some."""
    try:
        return [Committed(int(bucket), UUID(key), int(row)) for bucket, key, row in (one.split(" ") for one in payload.split(","))]
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Found:
    """A key with fresh rows: the lowest and highest of the `rows` that were seen; while blocked, a refused one must leave first."""

    bucket: int
    order_key: UUID
    first: int
    last: int
    rows: int
    is_blocked: bool


@dataclass(frozen=True, slots=True)
class Span:
    """Ids of a bucket to look through: above `after_id`, up to `last_id`."""

    bucket: int
    after_id: int
    last_id: int


@dataclass(frozen=True, slots=True)
class Due:
    """A key whose refused row may be offered again, and the key's highest row."""

    bucket: int
    order_key: UUID
    row: int
    last: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a relay asks for: the lowest row of a key above the floor; one that was refused, only as a retry."""

    order_key: UUID
    bucket: int
    fence: int
    floor: int
    is_retry: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that the broker did not take: why, how often before, and how long it waits now."""

    id: int
    attempts: int
    delay: timedelta
    error: str


_SPAN_COLUMNS: Final = column_names(Span)
_CLAIM_COLUMNS: Final = column_names(Claim)


async def discover_keys(tx: Tx, watermarks: Mapping[int, int], rows: int) -> list[Found]:
    """The keys of up to `rows` fresh rows above the watermark of each bucket, lowest row first."""
    records = await tx.fetch(_SQL["discover_keys"].sql, list(watermarks), list(watermarks.values()), rows)
    return [Found(*record) for record in records]


async def sweep_keys(tx: Tx, spans: Sequence[Span], rows: int) -> list[Found]:
    """The keys of up to `rows` fresh rows of each span, read from its lower end; lowest row first."""
    records = await tx.fetch(_SQL["sweep_keys"].sql, *columns(_SPAN_COLUMNS, spans), rows)
    return [Found(*record) for record in records]


async def find_due_keys(tx: Tx, buckets: Sequence[int], rows: int, keys: int) -> list[Due]:
    """Up to `keys` keys whose refused row may be offered again, longest due first; reads `rows` a bucket and level."""
    records = await tx.fetch(_SQL["find_due_keys"].sql, buckets, rows, keys)
    return [Due(*record) for record in records]


async def claim_messages(tx: Tx, holder: UUID, claims: Sequence[Claim]) -> list[ClaimedMessage]:
    """The lowest row of each key that may be sent now; of a bucket whose lease is not `holder`'s under this fence, nothing."""
    records = await tx.fetch(_SQL["claim_messages"].sql, holder, *columns(_CLAIM_COLUMNS, claims))
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


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the outbox: for how long the oldest of it, and how many keys a refused row blocks."""

    messages: int
    oldest: timedelta | None
    blocked_keys: int


@dataclass(frozen=True, slots=True)
class RefusalReason:
    """Why the broker did not take rows, and how many keys they block."""

    error: str
    blocked_keys: int


async def read_backlog(tx: Tx) -> Backlog:
    """How much waits."""
    (record,) = await tx.fetch(_SQL["read_backlog"].sql)
    return Backlog(**record)


async def measure_backlog(tx: Tx, most: int) -> Backlog:
    """How much waits, counted up to `most`; its oldest is that of the lowest id."""
    (record,) = await tx.fetch(_SQL["measure_backlog"].sql, most)
    return Backlog(**record)


async def list_refusals(tx: Tx, limit: int) -> list[RefusalReason]:
    """Why rows wait that were refused, the most frequent reason first."""
    return [RefusalReason(**record) for record in await tx.fetch(_SQL["list_refusals"].sql, limit)]
