"""Members of whom time makes something else: found by indexes, in pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from service.domain.member import CompanyId, MemberId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "DueMember",
    "PendingMember",
    "list_ended_graces",
    "list_ended_memberships",
    "list_pending_plans",
]

_SQL: Final = queries("due_members")
# Before every other.
_FIRST_ID: Final = UUID(int=0)
_FIRST_AT: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueMember:
    """A member whose standing is another by now, and what is planned; `plan_is_ours` where no source owns what that alters."""

    id: MemberId
    version: int
    expires_at: datetime
    company_id: CompanyId
    time_zone: str
    pending_plan: str | None
    pending_start: date | None
    pending_expires_at: datetime | None
    plan_is_ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingMember:
    """A member with a plan that begins."""

    id: MemberId
    version: int
    company_id: CompanyId
    time_zone: str
    pending_plan: str
    pending_start: date
    pending_expires_at: datetime | None


async def list_ended_memberships(tx: Tx, until: datetime, most: int, after: DueMember | None = None) -> list[DueMember]:
    """Who was active or suspended until the membership ended, before `until`; the earliest first, `after` the page before."""
    expires_at, identity = (_FIRST_AT, _FIRST_ID) if after is None else (after.expires_at, after.id)
    records = await tx.fetch(_SQL["list_ended_memberships"].sql, expires_at, identity, until, most)
    return [DueMember(**record) for record in records]


async def list_ended_graces(
    tx: Tx, until: datetime, most: int, default_grace_days: int, after: DueMember | None = None
) -> list[DueMember]:
    """Who was in grace until its days were over, before `until`; company by company, `after` the page before."""
    expires_at, identity, company = (
        (_FIRST_AT, _FIRST_ID, _FIRST_ID) if after is None else (after.expires_at, after.id, after.company_id)
    )
    records = await tx.fetch(_SQL["list_ended_graces"].sql, expires_at, identity, until, most, default_grace_days, company)
    return [DueMember(**record) for record in records]


async def list_pending_plans(tx: Tx, until: date, most: int, after: PendingMember | None = None) -> list[PendingMember]:
    """Whose pending plan begins on `until` or before; the earliest first, `after` the page before."""
    starts_on, identity = (date.min, _FIRST_ID) if after is None else (after.pending_start, after.id)
    records = await tx.fetch(_SQL["list_pending_plans"].sql, starts_on, identity, until, most)
    return [PendingMember(**record) for record in records]
