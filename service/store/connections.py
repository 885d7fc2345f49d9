"""Connections: where a company's members come from, and what was fixed about it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from service.domain.change import Rules, VersionKind
from service.domain.directories.guard import RemovalLimits
from service.domain.member import CompanyId, ConnectionId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "ConnectionRow",
    "DirectoryRow",
    "block_connection",
    "find_company_of_default_directory",
    "find_default_directory",
    "find_directory",
    "insert_connection",
    "insert_directory",
    "list_connections",
    "move_default_directory",
    "note_full_sync",
    "note_incremental_sync",
    "offer_default_directory",
    "release_connection",
    "removal_limits",
    "rules_of_connections",
]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryRow:
    """A connection's directory and where its syncs stand; `secret_revoked` where the company may no longer use the key."""

    connection_id: ConnectionId
    company_id: CompanyId
    name: str
    kind: str
    version_kind: str
    mapped_fields: list[str]
    status: str
    directory: Mapping[str, Any]
    secret_reference: str | None
    secret_revoked: bool
    last_full_sync_at: datetime | None
    last_incremental_sync_at: datetime | None
    incremental_watermark: datetime | None


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
            meaning_changed_at=record["meaning_changed_at"],
        )
        for record in records
    }


async def insert_directory(
    tx: Tx,
    company_id: CompanyId,
    name: str,
    kind: str,
    version_kind: VersionKind,
    mapped_fields: Sequence[str],
    directory: Mapping[str, Any],
    secret_reference: str | None,
) -> ConnectionRow:
    """Add a connection to a directory; raises Contention where the name is taken, UnfitData where the secret was never granted."""
    (record,) = await tx.fetch(
        _SQL["insert_directory"].sql, company_id, name, kind, version_kind, mapped_fields, directory, secret_reference
    )
    return ConnectionRow(**record)


async def find_directory(tx: Tx, connection_id: ConnectionId) -> DirectoryRow | None:
    """The directory of a connection that has one; archived connections too."""
    record = await tx.fetchrow(_SQL["find_directory"].sql, connection_id)
    return DirectoryRow(**record) if record else None


async def offer_default_directory(
    tx: Tx,
    company_id: CompanyId,
    version_kind: VersionKind,
    mapped_fields: Sequence[str],
    directory: Mapping[str, Any],
    secret_reference: str,
) -> None:
    """Add the connection `default`, where the company has none of that name."""
    await tx.execute(_SQL["offer_default_directory"].sql, company_id, version_kind, mapped_fields, directory, secret_reference)


async def move_default_directory(tx: Tx, company_id: CompanyId, base_url: str) -> bool:
    """Let the operator's own directory be asked there; False where it was already, or there is none."""
    return await tx.fetchval(_SQL["move_default_directory"].sql, company_id, base_url) is not None


async def find_default_directory(tx: Tx, company_id: CompanyId) -> ConnectionId | None:
    """The connection to the operator's own directory; None where the name `default` means something else."""
    identity = await tx.fetchval(_SQL["find_default_directory"].sql, company_id)
    return None if identity is None else ConnectionId(identity)


async def find_company_of_default_directory(tx: Tx) -> CompanyId | None:
    """The company of the operator's own directory, whatever it is called by now; None where there is none."""
    identity = await tx.fetchval(_SQL["find_company_of_default_directory"].sql)
    return None if identity is None else CompanyId(identity)


async def removal_limits(tx: Tx, connection_id: ConnectionId) -> RemovalLimits:
    """What one sync of a connection may remove unasked; the strictest where there is no such connection."""
    record = await tx.fetchrow(_SQL["removal_limits"].sql, connection_id)
    return RemovalLimits(most=0, most_percent=0, few=0) if record is None else RemovalLimits(**record)


async def block_connection(tx: Tx, connection_id: ConnectionId) -> None:
    """Ask the source of a connection no more, until somebody releases it."""
    await tx.execute(_SQL["block_connection"].sql, connection_id)


async def release_connection(tx: Tx, connection_id: ConnectionId) -> bool:
    """Ask the source of a blocked connection again; False where it was not blocked."""
    return await tx.fetchval(_SQL["release_connection"].sql, connection_id) is not None


async def note_full_sync(tx: Tx, connection_id: ConnectionId, at: datetime, watermark: datetime | None) -> None:
    """All members were compared with a complete snapshot that began then."""
    await tx.execute(_SQL["note_full_sync"].sql, connection_id, at, watermark)


async def note_incremental_sync(tx: Tx, connection_id: ConnectionId, at: datetime, watermark: datetime | None) -> None:
    """What had changed was compared, by a reading that began then."""
    await tx.execute(_SQL["note_incremental_sync"].sql, connection_id, at, watermark)
