"""Findings: what providers say of members, from the first time they did until it is so no more."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from uuid_utils.compat import uuid7

from service.domain.member import CompanyId, MemberId
from service.domain.scans import FindingState, Found, Severity
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "FindingFilter",
    "FindingRow",
    "Recorded",
    "Resolved",
    "erase_findings",
    "list_findings",
    "list_findings_of_scan",
    "record_findings",
    "resolve_pointless",
    "resolve_unseen",
]

_SQL: Final = queries("findings")
_FIRST: Final = UUID(int=0)
_LAST: Final = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Recorded:
    """How many of a batch this scan had not recorded before, and how many of these are new."""

    found: int
    opened: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """How many of those that were looked at are resolved now; the id of the last of them, None where there was none."""

    resolved: int
    last: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """A finding; `first_scan` and `last_scan` are numbers of scans."""

    id: UUID
    member_id: UUID
    provider: str
    kind: str
    key: str = field(repr=False)
    severity: str
    detail: Mapping[str, Any] = field(repr=False)
    state: str
    first_scan: int
    last_scan: int
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    resolution: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingFilter:
    """Which findings of a company are wanted."""

    state: FindingState = FindingState.OPEN
    provider: str | None = None
    kind: str | None = None
    severity: Severity | None = None
    member_id: MemberId | None = None


async def record_findings(tx: Tx, company_id: CompanyId, provider: str, scan: int, found: Sequence[Found]) -> Recorded:
    """Write what a provider has found; a finding that is among them twice is one, and members who have left have none."""
    rows = list({(one.member_id, one.kind, one.key): one for one in found}.values())
    (record,) = await tx.fetch(
        _SQL["record_findings"].sql,
        company_id,
        provider,
        scan,
        [one.member_id for one in rows],
        [uuid7() for _ in rows],
        [one.kind for one in rows],
        [one.key for one in rows],
        [one.severity for one in rows],
        [dict(one.detail) for one in rows],
    )
    return Recorded(**record)


async def resolve_unseen(tx: Tx, company_id: CompanyId, provider: str, scan: int, after: UUID | None, most: int) -> Resolved:
    """Look at the next open findings of a provider that came to its end, and resolve those that it did not find."""
    (record,) = await tx.fetch(_SQL["resolve_unseen"].sql, company_id, provider, scan, after or _FIRST, most)
    return Resolved(**record)


async def resolve_pointless(tx: Tx, company_id: CompanyId, providers: Collection[str], after: UUID | None, most: int) -> Resolved:
    """Look at the next open findings of a company, and resolve those of members who left and of providers other than these."""
    (record,) = await tx.fetch(_SQL["resolve_pointless"].sql, company_id, list(providers), after or _FIRST, most)
    return Resolved(**record)


async def list_findings(
    tx: Tx, company_id: CompanyId, wanted: FindingFilter, *, below: UUID | None = None, limit: int
) -> list[FindingRow]:
    """Findings of a company, the newest first, below the id of the last one before."""
    given = (company_id, wanted.state, below or _LAST, limit, wanted.provider, wanted.kind, wanted.severity, wanted.member_id)
    if wanted.member_id is not None:
        records = await tx.fetch(_SQL["list_findings_of_member"].sql, *given)
    elif wanted.severity is not None:
        records = await tx.fetch(_SQL["list_findings_by_severity"].sql, *given)
    elif wanted.kind is not None:
        records = await tx.fetch(_SQL["list_findings_by_kind"].sql, *given)
    elif wanted.provider is not None:
        records = await tx.fetch(_SQL["list_findings_by_provider"].sql, *given)
    else:
        records = await tx.fetch(_SQL["list_findings"].sql, *given)
    return [FindingRow(**record) for record in records]


async def list_findings_of_scan(
    tx: Tx, company_id: CompanyId, scan: int, *, below: UUID | None = None, limit: int
) -> list[FindingRow]:
    """What a scan of the company found, the newest first, below the id of the last one before."""
    records = await tx.fetch(_SQL["list_findings_of_scan"].sql, company_id, scan, below or _LAST, limit)
    return [FindingRow(**record) for record in records]


async def erase_findings(tx: Tx, member_id: MemberId) -> None:
    """Forget all that was found of a member."""
    await tx.execute(_SQL["erase_findings"].sql, member_id)
