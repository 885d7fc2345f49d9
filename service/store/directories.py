"""Connections as they are administered: shown, changed and archived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from service.domain.directories.guard import RemovalLimits
from service.domain.member import CompanyId, ConnectionId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "DirectoryView",
    "LiveMember",
    "archive_directory",
    "change_directory",
    "find_directory_named",
    "has_live_members",
    "hold_directory",
    "list_live_directories",
    "list_live_members",
    "lock_directory",
    "page_directories",
    "show_directory",
]

_SQL: Final = queries("directories")


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryView:
    """A connection as people see it; `directory` is None where its source is not asked, but tells by itself."""

    id: ConnectionId
    company_id: CompanyId
    name: str
    kind: str
    version_kind: str
    mapped_fields: list[str]
    status: str
    directory: Mapping[str, Any] | None
    secret_reference: str | None
    most_removals: int
    most_removed_percent: float
    few_removals: int
    last_full_sync_at: datetime | None
    last_incremental_sync_at: datetime | None
    takes_webhooks: bool
    # None: it is not synced by itself, or by a cron expression.
    sync_interval_ms: int | None
    # Of the syncs by its schedule, also of one that was stopped.
    sync_mode: str
    created_at: datetime
    archived_at: datetime | None

    @property
    def limits(self) -> RemovalLimits:
        """What one sync may remove unasked."""
        return RemovalLimits(most=self.most_removals, most_percent=self.most_removed_percent, few=self.few_removals)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveMember:
    """A member whom its source still has, as far as is known."""

    id: UUID
    external_id: str
    source_version: int | None


async def page_directories(
    tx: Tx, company_id: CompanyId, *, archived: bool, after: str | None, limit: int, only_asked: bool = False
) -> list[DirectoryView]:
    """A company's connections by name; `only_asked` leaves out those whose source tells by itself."""
    records = await tx.fetch(_SQL["page_directories"].sql, company_id, archived, after, limit, only_asked)
    return [DirectoryView(**record) for record in records]


async def show_directory(tx: Tx, connection_id: ConnectionId, company_id: CompanyId) -> DirectoryView | None:
    """A connection of this company, archived or not."""
    record = await tx.fetchrow(_SQL["show_directory"].sql, connection_id, company_id)
    return None if record is None else DirectoryView(**record)


async def lock_directory(tx: Tx, connection_id: ConnectionId, company_id: CompanyId) -> bool:
    """Let nothing happen to a connection of this company until the transaction ends; False where it has no such one."""
    return await tx.fetchval(_SQL["lock_directory"].sql, connection_id, company_id) is True


async def hold_directory(tx: Tx, connection_id: ConnectionId) -> None:
    """Let nobody change a connection until the transaction ends."""
    await tx.execute(_SQL["hold_directory"].sql, connection_id)


async def list_live_directories(tx: Tx, company_id: CompanyId) -> list[tuple[ConnectionId, str]]:
    """What a company can sync, with the names."""
    return [(ConnectionId(found), name) for found, name in await tx.fetch(_SQL["list_live_directories"].sql, company_id)]


async def find_directory_named(tx: Tx, company_id: CompanyId, name: str) -> ConnectionId | None:
    """The connection that a company calls so, archived or not."""
    found: UUID | None = await tx.fetchval(_SQL["find_directory_named"].sql, company_id, name)
    return None if found is None else ConnectionId(found)


async def change_directory(
    tx: Tx,
    connection_id: ConnectionId,
    *,
    name: str,
    directory: Mapping[str, Any] | None,
    secret_reference: str | None,
    mapped_fields: Sequence[str],
    limits: RemovalLimits,
    means_something_else: bool,
) -> None:
    """Write a locked connection, and release it where it was blocked; raises Contention where the name is taken."""
    await tx.execute(
        _SQL["change_directory"].sql,
        connection_id,
        name,
        directory,
        secret_reference,
        mapped_fields,
        limits.most,
        limits.most_percent,
        limits.few,
        means_something_else,
    )


async def archive_directory(tx: Tx, connection_id: ConnectionId, by: str) -> None:
    """Let nothing come from a locked connection any more."""
    await tx.execute(_SQL["archive_directory"].sql, connection_id, by)


async def has_live_members(tx: Tx, connection_id: ConnectionId) -> bool:
    """Whether a connection owns members that are not removed."""
    return await tx.fetchval(_SQL["has_live_members"].sql, connection_id) is True


async def list_live_members(tx: Tx, connection_id: ConnectionId, after: str, limit: int) -> list[LiveMember]:
    """Members of a connection that are not removed, by their keys above `after`."""
    records = await tx.fetch(_SQL["list_live_members"].sql, connection_id, after, limit)
    return [LiveMember(**record) for record in records]
