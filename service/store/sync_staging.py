"""What a running sync keeps of what it has read: the records that may differ from what is known; copied in, and thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from service.domain.jobs import JobId
from service.store.bulk import SLOW_SECONDS, plan_for_bulk, sample_little
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["StagedRecord", "analyze_staging", "copy_into_staging", "discard_staging"]

_SQL: Final = queries("sync_staging")
_TABLE: Final = "sync_staging"
_COLUMNS: Final = ("job_id", "external_id", "source_hash", "content", "national_id", "version", "updated_at", "reason")

# external_id, source_hash, content, national_id, version, updated_at, reason: a plain tuple, as a million of them are made.
StagedRecord: TypeAlias = tuple[str | None, bytes | None, bytes | None, str | None, int | None, datetime | None, str | None]


async def discard_staging(tx: Tx, job_id: JobId) -> None:
    """Empty it of this job's records, and of those whose job does not run any more."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["discard_staging"].sql, job_id, timeout=SLOW_SECONDS)


async def copy_into_staging(tx: Tx, job_id: JobId, records: Sequence[StagedRecord]) -> None:
    """Add records of a page."""
    head = (job_id,)
    await tx.copy_records_to_table(_TABLE, records=[head + record for record in records], columns=_COLUMNS)


async def analyze_staging(tx: Tx) -> None:
    """Let the planner know how much there is."""
    await sample_little(tx)
    await tx.execute(_SQL["analyze_staging"].sql, timeout=SLOW_SECONDS)
