"""Deliveries: one event on its way to one subscriber, from the event to its end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from service.domain.member import CompanyId, MemberId
from service.domain.notifications.delivery import DeliveryId, DeliveryState
from service.domain.notifications.subscriber import SubscriberId
from service.store.queries import queries
from service.store.rows import column_names, columns

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "AttemptRow",
    "ClaimedDelivery",
    "DeliveryBacklog",
    "DeliveryRow",
    "Line",
    "NewAttempt",
    "NewDelivery",
    "SettledDelivery",
    "Settlement",
    "Target",
    "claim_deliveries",
    "give_back_deliveries",
    "insert_attempts",
    "insert_deliveries",
    "insert_test",
    "let_go",
    "list_attempts",
    "list_deliveries",
    "list_due_subscribers",
    "list_targets",
    "measure_deliveries",
    "resend_delivery",
    "settle_deliveries",
    "show_delivery",
]

_SQL: Final = queries("deliveries")


class Line(NamedTuple):
    """What goes one after the other where order matters: a member's versions for one subscriber, live or of one replay."""

    subscriber_id: SubscriberId
    member_id: MemberId
    replay_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """An event for a subscriber."""

    subscriber_id: SubscriberId
    member_id: MemberId
    version: int
    in_order: bool
    correlation_id: str
    traceparent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedDelivery:
    """A delivery that is to be tried now, by whoever holds its fence."""

    id: DeliveryId
    subscriber_id: SubscriberId
    member_id: MemberId | None
    version: int | None
    replay_id: UUID | None
    in_order: bool
    fence: int
    attempts: int
    attempts_of_round: int
    correlation_id: str
    traceparent: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a subscriber is."""

    id: SubscriberId
    company_id: CompanyId
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What an attempt makes of its delivery."""

    id: DeliveryId
    fence: int
    state: DeliveryState
    wait: timedelta | None
    status: int | None
    error: str | None
    # Its attempts begin from the first again.
    anew: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledDelivery:
    """A delivery after an attempt, of which this is the number."""

    id: DeliveryId
    attempts: int
    subscriber_id: SubscriberId
    member_id: MemberId | None
    in_order: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAttempt:
    """One attempt, for the log of its delivery."""

    delivery_id: DeliveryId
    number: int
    started_at: datetime
    duration: timedelta
    outcome: str
    status: int | None
    error_class: str | None
    error: str | None
    response: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """A delivery as people see it; a test has no member. `due_at` of one that is `claimed_at` some time is its lease's end."""

    id: DeliveryId
    subscriber_id: SubscriberId
    member_id: MemberId | None
    version: int | None
    replay_id: UUID | None
    state: DeliveryState
    due_at: datetime | None
    claimed_at: datetime | None
    attempts: int
    last_status: int | None
    last_error: str | None
    correlation_id: str
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One attempt as people see it."""

    number: int
    started_at: datetime
    duration: timedelta
    outcome: str
    status: int | None
    error_class: str | None
    error: str | None
    response: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryBacklog:
    """What has not ended, for how long the longest overdue is so, and how many subscribers fail."""

    waiting: int
    overdue: timedelta | None
    failing: int


_ATTEMPT_COLUMNS: Final = column_names(NewAttempt)
_SETTLEMENT_COLUMNS: Final = column_names(Settlement)


async def insert_deliveries(tx: Tx, rows: Sequence[NewDelivery], replay_id: UUID | None = None) -> tuple[int, set[Line]]:
    """Add those that are not there yet; answers how many, and of which subscribers' members some wait to be let go."""
    first, rest = ("subscriber_id", "member_id", "version", "in_order"), ("correlation_id", "traceparent")
    records = await tx.fetch(_SQL["insert_deliveries"].sql, *columns(first, rows), replay_id, *columns(rest, rows))
    return len(records), {Line(record["subscriber_id"], record["member_id"], replay_id) for record in records if record["in_order"]}


async def insert_test(
    tx: Tx, subscriber_id: SubscriberId, test_id: UUID, correlation_id: str, traceparent: str | None
) -> DeliveryId:
    """Add a delivery about nobody."""
    return DeliveryId(await tx.fetchval(_SQL["insert_test"].sql, subscriber_id, test_id, correlation_id, traceparent))


async def let_go(tx: Tx, lines: Collection[Line]) -> int:
    """Let the lowest version that waits be tried, of each of these that has none under way; answers how many.

    The caller has locked the subscribers.
    """
    ordered = sorted(lines, key=str)
    given = [[one.subscriber_id for one in ordered], [one.member_id for one in ordered], [one.replay_id for one in ordered]]
    return len(await tx.fetch(_SQL["let_go"].sql, *given))


async def list_due_subscribers(tx: Tx) -> dict[SubscriberId, bool]:
    """Who has a delivery to be tried now, and whether its last attempts failed."""
    return {record["id"]: record["failing"] for record in await tx.fetch(_SQL["list_due_subscribers"].sql)}


async def claim_deliveries(tx: Tx, slots: Mapping[SubscriberId, int], lease: timedelta) -> list[ClaimedDelivery]:
    """Take up to so many of each subscriber's due deliveries; after `lease` anybody may take them again."""
    records = await tx.fetch(_SQL["claim_deliveries"].sql, list(slots), list(slots.values()), lease)
    return [ClaimedDelivery(**record) for record in records]


async def list_targets(tx: Tx, subscribers: Collection[SubscriberId]) -> list[Target]:
    """Where these subscribers are."""
    return [Target(**record) for record in await tx.fetch(_SQL["list_targets"].sql, list(subscribers))]


async def settle_deliveries(tx: Tx, settlements: Sequence[Settlement]) -> list[SettledDelivery]:
    """Note what became of attempts; those that somebody else has claimed since, or that were noted already, are missing."""
    records = await tx.fetch(_SQL["settle_deliveries"].sql, *columns(_SETTLEMENT_COLUMNS, settlements))
    return [SettledDelivery(**record) for record in records]


async def give_back_deliveries(tx: Tx, claimed: Sequence[ClaimedDelivery]) -> None:
    """Let anybody have what was claimed and not tried."""
    await tx.execute(_SQL["give_back_deliveries"].sql, *columns(("id", "fence"), claimed))


async def insert_attempts(tx: Tx, attempts: Sequence[NewAttempt]) -> None:
    """Add to the logs of deliveries."""
    await tx.execute(_SQL["insert_attempts"].sql, *columns(_ATTEMPT_COLUMNS, attempts))


async def resend_delivery(tx: Tx, delivery_id: DeliveryId, subscriber_id: SubscriberId) -> Line | bool:
    """Let one that ended begin anew; answers whether it did, and where order matters its line, which the caller lets go."""
    record = await tx.fetchrow(_SQL["resend_delivery"].sql, delivery_id)
    if record is None or not record["in_order"]:
        return record is not None
    return Line(subscriber_id, record["member_id"], record["replay_id"])


async def show_delivery(tx: Tx, delivery_id: DeliveryId, subscriber_id: SubscriberId, company_id: CompanyId) -> DeliveryRow | None:
    """A delivery of this company's subscriber."""
    record = await tx.fetchrow(_SQL["show_delivery"].sql, delivery_id, subscriber_id, company_id)
    return None if record is None else DeliveryRow(**{**record, "state": DeliveryState(record["state"])})


async def list_deliveries(
    tx: Tx,
    subscriber_id: SubscriberId,
    *,
    state: DeliveryState | None = None,
    after: DeliveryId | None = None,
    limit: int = 50,
) -> list[DeliveryRow]:
    """A subscriber's deliveries, the newest first; the caller knows that the subscriber is the company's."""
    records = await tx.fetch(_SQL["list_deliveries"].sql, subscriber_id, state, after, limit)
    return [DeliveryRow(**{**record, "state": DeliveryState(record["state"])}) for record in records]


async def list_attempts(tx: Tx, delivery_id: DeliveryId) -> list[AttemptRow]:
    """What was tried of a delivery, in order; the caller knows that it is the company's."""
    return [AttemptRow(**record) for record in await tx.fetch(_SQL["list_attempts"].sql, delivery_id)]


async def measure_deliveries(tx: Tx, most: int) -> DeliveryBacklog:
    """How much waits, counted up to `most`."""
    (record,) = await tx.fetch(_SQL["measure_deliveries"].sql, most)
    return DeliveryBacklog(**record)
