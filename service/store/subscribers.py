"""Subscribers: who is told of a company's events over HTTP, and how they fare."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from service.domain.member import CompanyId
from service.domain.notifications.subscriber import DisabledBecause, EventFilter, Listener, SubscriberId, SubscriberState
from service.store.queries import queries

if TYPE_CHECKING:
    import asyncpg

    from service.store.database import Tx

__all__ = [
    "DisabledSubscriber",
    "ListenerRow",
    "SubscriberRow",
    "change_subscriber",
    "count_subscribers",
    "disable_subscribers",
    "find_subscriber_named",
    "insert_subscriber",
    "list_listeners",
    "list_listening_companies",
    "list_subscribers",
    "lock_lines",
    "lock_ordered",
    "lock_subscriber",
    "note_failures",
    "note_success",
    "show_subscriber",
    "switch_subscriber",
]

_SQL: Final = queries("subscribers")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberRow:
    """A subscriber as people see it; `secret_references` sign now, of which the `retired_references` have an end.

    `undelivered` is counted up to a thousand: that value means so many or more.
    """

    id: SubscriberId
    company_id: CompanyId
    name: str
    url: str
    reason_codes: list[str]
    new_states: list[str]
    changed_fields: list[str]
    in_order: bool
    state: SubscriberState
    disabled_because: DisabledBecause | None
    state_changed_at: datetime
    state_changed_by: str
    failing_since: datetime | None
    wait_until: datetime | None
    created_at: datetime
    created_by: str
    secret_references: list[str]
    retired_references: list[str]
    undelivered: int

    @property
    def wants(self) -> EventFilter:
        """Which events."""
        return EventFilter(frozenset(self.reason_codes), frozenset(self.new_states), frozenset(self.changed_fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerRow:
    """Who is told of a company's events."""

    id: SubscriberId
    company_id: CompanyId
    reason_codes: list[str]
    new_states: list[str]
    changed_fields: list[str]
    in_order: bool
    begins_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DisabledSubscriber:
    """One that is called no more."""

    id: SubscriberId
    company_id: CompanyId
    disabled_because: DisabledBecause


async def insert_subscriber(
    tx: Tx, subscriber_id: SubscriberId, company_id: CompanyId, name: str, url: str, wants: EventFilter, by: str, *, in_order: bool
) -> None:
    """Add a subscriber; raises Contention where the name is taken at the same moment."""
    await tx.execute(_SQL["insert_subscriber"].sql, subscriber_id, company_id, name, url, *_lists(wants), in_order, by)


async def count_subscribers(tx: Tx, company_id: CompanyId) -> int:
    """How many a company has, the removed left out."""
    count: int = await tx.fetchval(_SQL["count_subscribers"].sql, company_id)
    return count


async def find_subscriber_named(tx: Tx, company_id: CompanyId, name: str) -> SubscriberId | None:
    """The subscriber that a company calls so."""
    found: SubscriberId | None = await tx.fetchval(_SQL["find_subscriber_named"].sql, company_id, name)
    return found


async def lock_subscriber(tx: Tx, subscriber_id: SubscriberId, company_id: CompanyId) -> bool:
    """Let nobody change a subscriber of this company until the transaction ends; False where it has no such one."""
    return await tx.fetchval(_SQL["lock_subscriber"].sql, subscriber_id, company_id) is True


async def show_subscriber(tx: Tx, subscriber_id: SubscriberId, company_id: CompanyId | None = None) -> SubscriberRow | None:
    """A subscriber that was not removed, of this company where one is given."""
    record = await tx.fetchrow(_SQL["show_subscriber"].sql, subscriber_id, company_id)
    return None if record is None else _row(record)


async def list_subscribers(tx: Tx, company_id: CompanyId, *, after: str | None = None, limit: int = 50) -> list[SubscriberRow]:
    """A company's subscribers by name."""
    return [_row(record) for record in await tx.fetch(_SQL["list_subscribers"].sql, company_id, after, limit)]


async def change_subscriber(
    tx: Tx, subscriber_id: SubscriberId, *, name: str, url: str, wants: EventFilter, in_order: bool
) -> None:
    """Write a locked subscriber; raises Contention where the name is taken."""
    await tx.execute(_SQL["change_subscriber"].sql, subscriber_id, name, url, *_lists(wants), in_order)


async def switch_subscriber(
    tx: Tx, subscriber_id: SubscriberId, state: SubscriberState, by: str, because: DisabledBecause | None = None
) -> None:
    """Let a locked subscriber be in another state."""
    await tx.execute(_SQL["switch_subscriber"].sql, subscriber_id, state, because, by)


async def list_listening_companies(tx: Tx) -> list[CompanyId]:
    """Companies that have, or had, a subscriber."""
    return [record["company_id"] for record in await tx.fetch(_SQL["list_listening_companies"].sql)]


async def list_listeners(tx: Tx, companies: Collection[CompanyId]) -> list[Listener]:
    """Who is told of events of these companies, now or once it is no longer paused."""
    rows = [ListenerRow(**record) for record in await tx.fetch(_SQL["list_listeners"].sql, list(companies))]
    return [
        Listener(
            id=row.id,
            company_id=row.company_id,
            wants=EventFilter(frozenset(row.reason_codes), frozenset(row.new_states), frozenset(row.changed_fields)),
            in_order=row.in_order,
            begins_at=row.begins_at,
        )
        for row in rows
    ]


async def lock_ordered(
    tx: Tx, subscribers: Collection[SubscriberId] = (), *, companies: Collection[CompanyId] = ()
) -> list[SubscriberId]:
    """Lock those of them for whom order matters, so that nobody adds or ends deliveries of theirs beside this transaction."""
    return [record["id"] for record in await tx.fetch(_SQL["lock_ordered"].sql, list(subscribers), list(companies))]


async def lock_lines(tx: Tx, subscribers: Collection[SubscriberId]) -> None:
    """The same for those that have deliveries in order, whatever they want of what comes."""
    await tx.execute(_SQL["lock_lines"].sql, list(subscribers))


async def note_success(tx: Tx, subscribers: Collection[SubscriberId]) -> None:
    """They answered as they should."""
    await tx.execute(_SQL["note_success"].sql, sorted(subscribers))


async def note_failures(tx: Tx, failures: Mapping[SubscriberId, tuple[datetime | None, timedelta | None]]) -> None:
    """They did not: since when, None where others succeeded beside it, and how long they ask to be left alone."""
    ids = sorted(failures)
    await tx.execute(_SQL["note_failures"].sql, ids, [failures[one][0] for one in ids], [failures[one][1] for one in ids])


async def disable_subscribers(
    tx: Tx, suspects: Collection[SubscriberId], gone: Collection[SubscriberId], failing_for: timedelta
) -> list[DisabledSubscriber]:
    """Call no more who is gone, or has failed for longer than that; answers whom."""
    records = await tx.fetch(_SQL["disable_subscribers"].sql, sorted(suspects), sorted(gone), failing_for)
    return [
        DisabledSubscriber(
            id=record["id"], company_id=record["company_id"], disabled_because=DisabledBecause(record["disabled_because"])
        )
        for record in records
    ]


def _lists(wants: EventFilter) -> Sequence[list[str]]:
    return sorted(wants.reason_codes), sorted(wants.new_states), sorted(wants.changed_fields)


def _row(record: asyncpg.Record) -> SubscriberRow:
    because = record["disabled_because"]
    states = {
        "state": SubscriberState(record["state"]),
        "disabled_because": None if because is None else DisabledBecause(because),
    }
    return SubscriberRow(**{**dict(record), **states})
