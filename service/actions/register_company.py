"""Add a company, or change what it is called and goes by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import available_timezones

from service.actions.audit_change import Author, audit_change, differences
from service.domain.member import CompanyId
from service.store.companies import CompanyRow, change_company, find_company, insert_company, lock_company

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["CompanyRefused", "is_time_zone", "register_company", "revise_company"]

_TOLD: Final = {"name": "name", "time_zone": "timeZone", "grace_days": "graceDays"}


@dataclass(frozen=True, slots=True)
class CompanyRefused:
    """It cannot be so; `reason` says why."""

    reason: str


def is_time_zone(name: str) -> bool:
    """Whether a time zone is called so."""
    return name in available_timezones()


async def register_company(tx: Tx, name: str, time_zone: str, grace_days: int | None, actor: str) -> CompanyRow | CompanyRefused:
    """Add a company; raises Contention where somebody adds one of that name at the same moment."""
    if (refused := await _taken(tx, name)) is not None:
        return refused
    row = await insert_company(tx, name, time_zone, grace_days)
    await audit_change(tx, Author(row.id, actor), "company.registered", row.id, differences({}, _told(row)))
    return row


async def revise_company(tx: Tx, author: Author, given: Mapping[str, Any]) -> CompanyRow | CompanyRefused | None:
    """Change `name`, `time_zone` or `grace_days`, those that are given; None where there is no such company.

    Raises Contention where somebody takes the name at the same moment. Whose standing new days of grace alter is found by the next
    reconciliation; what is read shows it at once.
    """
    before = await lock_company(tx, author.company_id)
    if before is None:
        return None
    after = replace(before, **given)
    if after == before:
        return before
    if after.name != before.name and (refused := await _taken(tx, after.name, by=before.id)) is not None:
        return refused
    row = await change_company(tx, before.id, after.name, after.time_zone, after.grace_days)
    await audit_change(tx, author, "company.changed", row.id, differences(_told(before), _told(row)))
    return row


async def _taken(tx: Tx, name: str, by: CompanyId | None = None) -> CompanyRefused | None:
    # A name that looks like another company's id would make it unclear whom the operator means.
    other = await find_company(tx, name)
    return None if other is None or other.id == by else CompanyRefused(f"there is a company named {name} already")


def _told(row: CompanyRow) -> dict[str, Any]:
    return {told: getattr(row, name) for name, told in _TOLD.items()}
