"""Companies: whose members they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from service.domain.member import CompanyId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "CompanyRow",
    "change_company",
    "find_company",
    "grace_of_companies",
    "insert_company",
    "list_companies",
    "lock_company",
    "offer_company",
    "page_companies",
    "set_scan_providers",
]

_SQL: Final = queries("companies")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanyRow:
    """A company; `grace_days` None means the operator's GRACE_DAYS, `scan_interval_ms` None that it is not scanned by itself."""

    id: CompanyId
    name: str
    time_zone: str
    grace_days: int | None
    # By provider its settings, with references to secrets.
    scan_providers: Mapping[str, Mapping[str, Any]]
    scan_interval_ms: int | None
    created_at: datetime


async def insert_company(tx: Tx, name: str, time_zone: str, grace_days: int | None) -> CompanyRow:
    """Add a company; raises Contention where the name is taken."""
    (record,) = await tx.fetch(_SQL["insert_company"].sql, name, time_zone, grace_days)
    return CompanyRow(**record)


async def offer_company(tx: Tx, name: str) -> None:
    """Add a company, where there is none of that name."""
    await tx.execute(_SQL["offer_company"].sql, name)


async def list_companies(tx: Tx) -> list[CompanyRow]:
    """All companies by name."""
    return [CompanyRow(**record) for record in await tx.fetch(_SQL["list_companies"].sql)]


async def find_company(tx: Tx, id_or_name: str) -> CompanyRow | None:
    """A company by its id or its name."""
    record = await tx.fetchrow(_SQL["find_company"].sql, id_or_name)
    return CompanyRow(**record) if record else None


async def page_companies(tx: Tx, *, after: CompanyId | None, limit: int) -> list[CompanyRow]:
    """Companies by id, above `after`."""
    return [CompanyRow(**record) for record in await tx.fetch(_SQL["page_companies"].sql, after, limit)]


async def lock_company(tx: Tx, company_id: CompanyId) -> CompanyRow | None:
    """A company that nobody else changes until the transaction ends."""
    record = await tx.fetchrow(_SQL["lock_company"].sql, company_id)
    return CompanyRow(**record) if record else None


async def change_company(tx: Tx, company_id: CompanyId, name: str, time_zone: str, grace_days: int | None) -> CompanyRow:
    """Write what a locked company is called and goes by; raises Contention where the name is taken."""
    (record,) = await tx.fetch(_SQL["change_company"].sql, company_id, name, time_zone, grace_days)
    return CompanyRow(**record)


async def set_scan_providers(tx: Tx, company_id: CompanyId, providers: Mapping[str, Mapping[str, Any]]) -> None:
    """Let a company's members be looked at by these providers, each with its settings."""
    await tx.execute(_SQL["set_scan_providers"].sql, company_id, providers)


async def grace_of_companies(tx: Tx, ids: Collection[CompanyId], default_days: int) -> dict[CompanyId, timedelta]:
    """The grace that holds in each company."""
    records = await tx.fetch(_SQL["grace_of_companies"].sql, list(ids), default_days)
    return {CompanyId(identity): timedelta(days=days) for identity, days in records}
