"""The history of syncs: one row a run, whatever became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from service.domain.directories.delta import Count
from service.domain.directories.sync_options import SyncMode, SyncOptions
from service.domain.jobs import JobId
from service.domain.member import CompanyId, ConnectionId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "BegunSync",
    "Review",
    "SyncLogRow",
    "SyncStatus",
    "add_counts",
    "begin_sync",
    "end_forsaken_syncs",
    "find_last_sync_of_job",
    "find_sync",
    "finish_sync",
    "list_baselines",
    "list_open_quarantines",
    "list_syncs",
    "review_sync",
]

_SQL: Final = queries("sync_log")


class SyncStatus(StrEnum):
    """How a run stands."""

    PENDING = "pending"
    SUCCESS = "success"
    PARTIAL = "partial"
    FAILED = "failed"
    QUARANTINED = "quarantined"


class Review(StrEnum):
    """What became of a quarantine."""

    APPROVED = "approved"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunSync:
    """A run as an attempt begins: when, by the database's clock, and what earlier attempts have applied."""

    id: UUID
    snapshot_began_at: datetime
    added: int
    updated: int
    reactivated: int
    removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncLogRow:
    """A run as people see it; one whose job ended without it has failed."""

    id: UUID
    job_id: UUID
    company_id: UUID
    connection_id: UUID
    type: str
    mode: str
    dry_run: bool
    baseline: bool
    status: str
    started_at: datetime
    finished_at: datetime | None
    fetched: int
    added: int
    updated: int
    reactivated: int
    removed: int
    verified: int
    left_alone: int
    error_count: int
    error: str | None
    details: Mapping[str, Any]
    approves: UUID | None
    review: str | None
    reviewed_at: datetime | None
    reviewed_by: str | None
    correlation_id: str

    @property
    def duration(self) -> timedelta | None:
        """How long it took, waits for its retries among it; None while it runs."""
        return None if self.finished_at is None else self.finished_at - self.started_at


async def begin_sync(
    tx: Tx,
    job_id: JobId,
    company_id: CompanyId,
    connection_id: ConnectionId,
    options: SyncOptions,
    correlation_id: str,
) -> BegunSync:
    """Open the run of a job, or go on with the one that an earlier attempt opened."""
    record = await tx.fetchrow(
        _SQL["begin_sync"].sql,
        job_id,
        company_id,
        connection_id,
        options.type,
        options.mode,
        options.dry_run,
        options.baseline,
        options.approved,
        correlation_id,
    )
    if record is None:
        raise RuntimeError("an upsert has one row")
    return BegunSync(**record)


async def end_forsaken_syncs(tx: Tx, connection_id: ConnectionId, job_id: JobId) -> None:
    """Close what jobs of the connection left open that do not run any more."""
    await tx.execute(_SQL["end_forsaken_syncs"].sql, connection_id, job_id)


async def add_counts(tx: Tx, log_id: UUID, counts: Mapping[Count, int]) -> None:
    """Count what came of a batch."""
    problems = counts.get(Count.INVALID, 0) + counts.get(Count.CONFLICTING, 0)
    of_columns = (Count.ADDED, Count.UPDATED, Count.REACTIVATED, Count.REMOVED, Count.VERIFIED, Count.LEFT_ALONE)
    await tx.execute(_SQL["add_counts"].sql, log_id, *(counts.get(count, 0) for count in of_columns), problems)


async def finish_sync(
    tx: Tx,
    log_id: UUID,
    status: SyncStatus,
    *,
    mode: SyncMode,
    fetched: int,
    error: str | None = None,
    details: Mapping[str, Any],
) -> None:
    """Close a run; `mode` is what it came to, which may be more than was asked for."""
    await tx.execute(_SQL["finish_sync"].sql, log_id, status, mode, fetched, error, details)


async def review_sync(tx: Tx, job_id: JobId, review: Review, reviewed_by: str) -> UUID | None:
    """Note what becomes of a job's open quarantine; its run, None where there is none."""
    log_id: UUID | None = await tx.fetchval(_SQL["review_sync"].sql, job_id, review, reviewed_by)
    return log_id


async def list_open_quarantines(tx: Tx, connection_id: ConnectionId) -> list[JobId]:
    """The jobs of a connection that wait for somebody; its schedule waits with them."""
    return [JobId(job_id) for (job_id,) in await tx.fetch(_SQL["list_open_quarantines"].sql, connection_id)]


async def find_sync(tx: Tx, log_id: UUID, company_id: CompanyId | None = None) -> SyncLogRow | None:
    """A run, of this company where one is given."""
    record = await tx.fetchrow(_SQL["find_sync"].sql, log_id, company_id)
    return None if record is None else SyncLogRow(**record)


async def find_last_sync_of_job(tx: Tx, job_id: JobId) -> SyncLogRow | None:
    """The newest run of a job; None before it began."""
    record = await tx.fetchrow(_SQL["find_last_sync_of_job"].sql, job_id)
    return None if record is None else SyncLogRow(**record)


async def list_syncs(
    tx: Tx,
    *,
    company_id: CompanyId | None = None,
    connection_id: ConnectionId | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> Sequence[SyncLogRow]:
    """Runs, the newest first, below the one that began `after`; the caller knows that the connection is the company's."""
    end = (None, None) if after is None else after
    return [SyncLogRow(**record) for record in await tx.fetch(_SQL["list_syncs"].sql, company_id, connection_id, *end, limit)]


async def list_baselines(tx: Tx, correlation_ids: Collection[str]) -> set[str]:
    """Those of these runs that were first imports, whose new members nobody is told of."""
    records = await tx.fetch(_SQL["list_baselines"].sql, list(correlation_ids))
    return {record["correlation_id"] for record in records}
