"""Drift runs: one row each time a read model was compared with its source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from service.domain.drift import DriftTally, Judged, ReconciliationMode, Verdict
from service.domain.jobs import JobId
from service.domain.member import CompanyId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "DriftRunRow",
    "begin_drift_run",
    "count_healed",
    "find_drift_run",
    "find_visible_drift_run",
    "finish_drift_run",
    "list_drift_runs",
    "page_drift_runs",
]

_SQL: Final = queries("drift_runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRunRow:
    """A run as people see it; `streak` is that of its read model after it."""

    id: UUID
    job_id: UUID
    read_model: str
    mode: str
    started_at: datetime
    finished_at: datetime | None
    verdict: str | None
    compared: int
    out_of_sync: int
    errors: int
    healed: int
    truncated: bool
    streak: int
    promoted: bool
    error: str | None
    correlation_id: str

    @property
    def tally(self) -> DriftTally:
        """What it has counted."""
        return DriftTally(compared=self.compared, out_of_sync=self.out_of_sync, errors=self.errors)

    @property
    def duration(self) -> timedelta | None:
        """How long its last attempt took; None while it runs."""
        return None if self.finished_at is None else self.finished_at - self.started_at


async def begin_drift_run(tx: Tx, job_id: JobId, read_model: str, mode: ReconciliationMode, correlation_id: str) -> UUID | None:
    """Open the run of a job, or go on with the one that an earlier attempt opened; None where that one has ended."""
    found: UUID | None = await tx.fetchval(_SQL["begin_drift_run"].sql, job_id, read_model, mode, correlation_id)
    return found


async def finish_drift_run(
    tx: Tx, run_id: UUID, tally: DriftTally, verdict: Verdict, judged: Judged, *, truncated: bool, error: str | None
) -> datetime | None:
    """Close a run; answers when, None where it is closed already."""
    finished_at: datetime | None = await tx.fetchval(
        _SQL["finish_drift_run"].sql,
        run_id,
        verdict,
        tally.compared,
        tally.out_of_sync,
        tally.errors,
        truncated,
        judged.streak.breaches,
        judged.promotes,
        error,
    )
    return finished_at


async def count_healed(tx: Tx, run_id: UUID, healed: int) -> None:
    """Count keys that were repaired."""
    await tx.execute(_SQL["count_healed"].sql, run_id, healed)


async def find_drift_run(tx: Tx, run_id: UUID) -> DriftRunRow | None:
    """One run."""
    record = await tx.fetchrow(_SQL["find_drift_run"].sql, run_id)
    return None if record is None else DriftRunRow(**record)


async def list_drift_runs(
    tx: Tx, *, read_model: str | None = None, job_id: UUID | None = None, limit: int = 50
) -> list[DriftRunRow]:
    """Runs, the newest first."""
    return [DriftRunRow(**record) for record in await tx.fetch(_SQL["list_drift_runs"].sql, read_model, job_id, limit)]


async def page_drift_runs(
    tx: Tx,
    company_id: CompanyId,
    *,
    whole_installation: bool,
    read_model: str | None,
    job_id: UUID | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[DriftRunRow]:
    """Runs of a company's directories, and those over all companies where one may see them; the newest first."""
    at, last = after or (None, None)
    records = await tx.fetch(_SQL["page_drift_runs"].sql, company_id, whole_installation, read_model, job_id, at, last, limit)
    return [DriftRunRow(**record) for record in records]


async def find_visible_drift_run(tx: Tx, run_id: UUID, company_id: CompanyId, *, whole_installation: bool) -> DriftRunRow | None:
    """One of them."""
    record = await tx.fetchrow(_SQL["find_visible_drift_run"].sql, company_id, whole_installation, run_id)
    return None if record is None else DriftRunRow(**record)
