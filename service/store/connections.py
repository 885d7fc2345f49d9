"""Connections: where a company's members come from, and what was fixed about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from service.domain.change import Rules, VersionKind
from service.domain.member import CompanyId, ConnectionId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["ConnectionRow", "insert_connection", "list_connections", "rules_of_connections"]

_SQL: Final = queries("connections")
_RULES: Final = _SQL["rules_of_connections"].sql


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRow:
    """A connection of a company to one source."""

    id: ConnectionId
    company_id: CompanyId
    name: str
    kind: str
    version_kind: str
    mapped_fields: list[str]
    status: str
    created_at: datetime


async def insert_connection(
    tx: Tx, company_id: CompanyId, name: str, kind: str, version_kind: VersionKind, mapped_fields: Sequence[str]
) -> ConnectionRow:
    """Add a connection; raises Contention where the company has one of that name."""
    (record,) = await tx.fetch(_SQL["insert_connection"].sql, company_id, name, kind, version_kind, mapped_fields)
    return ConnectionRow(**record)


async def list_connections(tx: Tx, company_id: CompanyId | None = None) -> list[ConnectionRow]:
    """All connections, or one company's."""
    return [ConnectionRow(**record) for record in await tx.fetch(_SQL["list_connections"].sql, company_id)]


async def rules_of_connections(tx: Tx, ids: Collection[ConnectionId], default_grace_days: int) -> dict[ConnectionId, Rules]:
    """What each known connection and its company have fixed; an unknown id is missing from the answer."""
    records = await tx.fetch(_RULES, list(ids), default_grace_days)
    return {
        ConnectionId(record["id"]): Rules(
            company_id=CompanyId(record["company_id"]),
            grace=timedelta(days=record["grace_days"]),
            version_kind=VersionKind(record["version_kind"]),
            mapped_fields=frozenset(record["mapped_fields"]),
            archived=record["status"] == "archived",
        )
        for record in records
    }
