"""The audit of what is administered: companies, directories, keys, syncs; members have their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from service.domain.member import CompanyId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["AdminEvent", "NewAdminEvent", "insert_admin_event", "list_admin_events"]

_SQL: Final = queries("admin_events")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAdminEvent:
    """What somebody did: `action` is `subject.verb`, `changes` are `{field: {before, after}}` without secrets."""

    company_id: CompanyId
    actor: str
    action: str
    subject_kind: str
    subject_id: UUID
    correlation_id: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminEvent:
    """What somebody did, as it is read."""

    id: int
    occurred_at: datetime
    actor: str
    action: str
    subject_kind: str
    subject_id: UUID
    changes: Mapping[str, Any]
    correlation_id: str


async def insert_admin_event(tx: Tx, event: NewAdminEvent) -> None:
    """Note what was done, in the transaction in which it is done."""
    await tx.execute(
        _SQL["insert_admin_event"].sql,
        event.company_id,
        event.actor,
        event.action,
        event.subject_kind,
        event.subject_id,
        event.changes,
        event.correlation_id,
    )


async def list_admin_events(
    tx: Tx, company_id: CompanyId, *, subject_id: UUID | None = None, after: int | None = None, limit: int = 50
) -> list[AdminEvent]:
    """What was done in a company, the newest first."""
    records = await tx.fetch(_SQL["list_admin_events"].sql, company_id, after, subject_id, limit)
    return [AdminEvent(**record) for record in records]
