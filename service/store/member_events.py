"""The audit: one row a member version, never altered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from service.domain.member import CompanyId, ConnectionId, MemberId
from service.store.copying import COPY_FROM, copy_rows
from service.store.queries import queries
from service.store.rows import column_names, columns, tuples

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["MemberEventRow", "PastEvent", "insert_member_events", "list_events_of_member", "list_events_since"]

_SQL: Final = queries("member_events")
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


async def list_events_since(
    tx: Tx, after: int, since: datetime, until: datetime, company_id: UUID | None, limit: int
) -> list[PastEvent]:
    """Versions made in [since, until) of all companies or one, in the order of their ids, from above the id `after`."""
    records = await tx.fetch(_SQL["list_events_since"].sql, after, since, until, company_id, limit)
    return [PastEvent(**record) for record in records]


async def list_events_of_member(
    tx: Tx, member_id: UUID, after: int, since: datetime | None, company_id: UUID | None, limit: int
) -> list[PastEvent]:
    """Versions of one member in their order, from above the version `after`."""
    records = await tx.fetch(_SQL["list_events_of_member"].sql, member_id, after, since, company_id, limit)
    return [PastEvent(**record) for record in records]
