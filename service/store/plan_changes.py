"""Changes of plan: their history, and the lock under which one takes effect."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from service.domain.change import PendingPlan
from service.domain.member import CompanyId, MemberId
from service.store.queries import queries
from service.store.rows import column_names, columns

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "ChangeType",
    "NewPlanChange",
    "PlanChangeRow",
    "find_open_plan_change",
    "insert_plan_changes",
    "list_applied_plan_changes",
    "list_plan_changes",
    "try_lock_plan_changes",
]

_SQL: Final = queries("plan_changes")


class ChangeType(StrEnum):
    """What became of a plan."""

    SCHEDULED = "SCHEDULED"
    APPLIED = "APPLIED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPlanChange:
    """A line of the history; `expires_at` is what the plan made, or would have made, of it: None where it stays."""

    member_id: MemberId
    change_type: ChangeType
    plan: str
    effective_date_day: date
    expires_at: datetime | None
    actor: str
    correlation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChangeRow:
    """A line of the history as people see it."""

    id: int
    change_type: ChangeType
    plan: str
    effective_date_day: date
    expires_at: datetime | None
    actor: str
    correlation_id: str
    occurred_at: datetime


_COLUMNS: Final = column_names(NewPlanChange)


async def try_lock_plan_changes(tx: Tx, ids: Collection[MemberId]) -> set[MemberId]:
    """Keep others from changing these members' plans until the transaction ends; answers those who were free."""
    return {MemberId(record["id"]) for record in await tx.fetch(_SQL["try_lock_plan_changes"].sql, list(ids))}


async def list_applied_plan_changes(tx: Tx, days: Mapping[MemberId, date]) -> set[MemberId]:
    """Who of them had a plan begin on that day already."""
    records = await tx.fetch(_SQL["list_applied_plan_changes"].sql, list(days), list(days.values()))
    return {MemberId(record["member_id"]) for record in records}


async def insert_plan_changes(tx: Tx, rows: Sequence[NewPlanChange]) -> None:
    """Add to the history; raises Contention where a plan of that day has taken effect meanwhile."""
    await tx.execute(_SQL["insert_plan_changes"].sql, *columns(_COLUMNS, rows))


async def find_open_plan_change(tx: Tx, member_id: MemberId) -> PendingPlan | None:
    """What the history says is planned for a member."""
    record = await tx.fetchrow(_SQL["find_open_plan_change"].sql, member_id)
    return None if record is None else PendingPlan(record["plan"], record["effective_date_day"], record["expires_at"])


async def list_plan_changes(
    tx: Tx, company_id: CompanyId, member_id: MemberId, *, before: int | None = None, limit: int = 50
) -> list[PlanChangeRow]:
    """A member's history of plans, the newest first."""
    records = await tx.fetch(_SQL["list_plan_changes"].sql, company_id, member_id, before, limit)
    return [PlanChangeRow(**{**dict(record), "change_type": ChangeType(record["change_type"])}) for record in records]
