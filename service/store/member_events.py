"""The audit: one row a member version, never altered."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from service.domain.member import CompanyId, ConnectionId, MemberId
from service.domain.notifications.subscriber import SubscriberId
from service.store.copying import COPY_FROM, copy_rows
from service.store.queries import queries
from service.store.rows import column_names, columns, tuples

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "EventPage",
    "MemberEventRow",
    "PastEvent",
    "UntoldEvent",
    "insert_member_events",
    "list_events_at",
    "list_events_of_member",
    "list_events_since",
    "list_untold_events",
]

_SQL: Final = queries("member_events")
# Versions that one statement reads at most, whatever it seeks.
_LOOKED_AT: Final = 10_000
_NO_END: Final = 2**63 - 1
_INSERT: Final = _SQL["insert_member_events"].sql


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberEventRow:
    """What a version changed, who is behind it, and all that its event said."""

    member_id: MemberId
    version: int
    company_id: CompanyId
    connection_id: ConnectionId | None
    external_id: str | None
    occurred_at: datetime
    reason_code: str
    previous_state: str | None
    new_state: str
    changed_fields: tuple[str, ...]
    plan: str | None
    starts_at: datetime | None
    expires_at: datetime | None
    before: dict[str, Any]
    after: dict[str, Any]
    actor: str
    correlation_id: str
    traceparent: str | None


_COLUMNS: Final = column_names(MemberEventRow)
_CHANGED_FIELDS: Final = _COLUMNS.index("changed_fields")


async def insert_member_events(tx: Tx, rows: Sequence[MemberEventRow]) -> None:
    """Append to the audit."""
    if len(rows) >= COPY_FROM:
        await copy_rows(tx, "member_events", _COLUMNS, tuples(_COLUMNS, rows))
        return
    given = columns(_COLUMNS, rows)
    # `unnest` would flatten an array of arrays. Names of fields have no commas.
    given[_CHANGED_FIELDS] = [",".join(row.changed_fields) for row in rows]
    await tx.execute(_INSERT, *given)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvent:
    """What the event of a version said; `id` is that of its audit row."""

    id: int
    member_id: MemberId
    version: int
    company_id: CompanyId
    connection_id: ConnectionId | None
    external_id: str | None
    occurred_at: datetime
    reason_code: str
    previous_state: str | None
    new_state: str
    changed_fields: list[str]
    plan: str | None
    starts_at: datetime | None
    expires_at: datetime | None
    correlation_id: str
    traceparent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UntoldEvent(PastEvent):
    """What the event of a version said, and whom it should be told."""

    subscriber_id: SubscriberId


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some past events, and the last id that was looked at for them; None where that was all, but for what comes meanwhile."""

    events: list[PastEvent]
    last: int | None


async def list_events_since(
    tx: Tx, after: int, since: datetime, until: datetime, company_id: UUID | None, limit: int, *, most: int = _LOOKED_AT
) -> EventPage:
    """Versions made in [since, until) of all companies or one, in the order of their ids, from above the id `after`.

    Up to `limit` of them, of at most `most` that are looked at: a page may be empty and not the last.
    """
    end: int | None = await tx.fetchval(_SQL["find_events_end"].sql, after, most)
    records = await tx.fetch(_SQL["list_events_since"].sql, after, since, until, company_id, limit, end or _NO_END)
    events = [PastEvent(**record) for record in records]
    return EventPage(events, end if len(events) < limit else events[-1].id)


async def list_events_of_member(
    tx: Tx, member_id: UUID, after: int, since: datetime | None, company_id: UUID | None, limit: int
) -> list[PastEvent]:
    """Versions of one member in their order, from above the version `after`."""
    records = await tx.fetch(_SQL["list_events_of_member"].sql, member_id, after, since, company_id, limit)
    return [PastEvent(**record) for record in records]


async def list_untold_events(
    tx: Tx, newest: Collection[tuple[SubscriberId, MemberId, int, datetime]], within: timedelta
) -> list[UntoldEvent]:
    """Versions before the newest of a member that a subscriber was not told of, of those since it began, and in this time alone."""
    given = [list(column) for column in zip(*newest, strict=True)] if newest else [[], [], [], []]
    records = await tx.fetch(_SQL["list_untold_events"].sql, *given, within)
    return [UntoldEvent(**record) for record in records]


async def list_events_at(tx: Tx, versions: Collection[tuple[MemberId, int]]) -> dict[tuple[MemberId, int], PastEvent]:
    """What these versions said; those that the audit does not have any more are missing from the answer."""
    members, numbers = [member_id for member_id, _ in versions], [version for _, version in versions]
    events = [PastEvent(**record) for record in await tx.fetch(_SQL["list_events_at"].sql, members, numbers)]
    return {(MemberId(event.member_id), event.version): event for event in events}
