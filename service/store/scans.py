"""Scans: one row each time a company's members were looked at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from uuid import UUID

from service.domain.jobs import JobId
from service.domain.member import CompanyId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["BegunScan", "ScanRow", "ScanStatus", "begin_scan", "find_scan", "find_scan_of_job", "finish_scan", "list_scans"]

_SQL: Final = queries("scans")


class ScanStatus(StrEnum):
    """How a scan stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    # Some of its providers failed.
    PARTIAL = "partial"
    # All of them did.
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunScan:
    """A scan as an attempt begins; `status` where an earlier one has ended it."""

    id: UUID
    number: int
    status: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRow:
    """A scan as people see it; `members` are the live ones as it began."""

    id: UUID
    number: int
    job_id: UUID
    company_id: UUID
    started_at: datetime
    finished_at: datetime | None
    status: str
    members: int
    correlation_id: str


async def begin_scan(tx: Tx, job_id: JobId, company_id: CompanyId, members: int, correlation_id: str) -> BegunScan:
    """Open the scan of a job, or go on with the one that an earlier attempt opened."""
    (record,) = await tx.fetch(_SQL["begin_scan"].sql, job_id, company_id, members, correlation_id)
    return BegunScan(**record)


async def finish_scan(tx: Tx, scan_id: UUID, status: ScanStatus) -> None:
    """Close a scan."""
    await tx.execute(_SQL["finish_scan"].sql, scan_id, status)


async def find_scan(tx: Tx, scan_id: UUID, company_id: CompanyId | None = None) -> ScanRow | None:
    """A scan, of this company where one is given."""
    record = await tx.fetchrow(_SQL["find_scan"].sql, scan_id, company_id)
    return None if record is None else ScanRow(**record)


async def find_scan_of_job(tx: Tx, job_id: JobId) -> ScanRow | None:
    """The scan of a job; None before it began."""
    record = await tx.fetchrow(_SQL["find_scan_of_job"].sql, job_id)
    return None if record is None else ScanRow(**record)


async def list_scans(tx: Tx, company_id: CompanyId, *, below: int | None = None, limit: int = 50) -> list[ScanRow]:
    """Scans of a company, the newest first, below the number of the last one before."""
    return [ScanRow(**record) for record in await tx.fetch(_SQL["list_scans"].sql, company_id, below, limit)]
