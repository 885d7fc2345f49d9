"""What a running sync has read from its directory: copied in page by page, compared, and thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from service.domain.jobs import JobId
from service.store.bulk import SLOW_SECONDS, plan_for_bulk, sample_little, write_for_now
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "Keys",
    "StagedRecord",
    "analyze_staging",
    "copy_into_staging",
    "count_keys",
    "count_staged",
    "delete_repetitions",
    "discard_staging",
    "mark_contradictions",
]

_SQL: Final = queries("sync_staging")
_TABLE: Final = "sync_staging"
_COLUMNS: Final = (
    "job_id",
    "reading",
    "external_id",
    "source_hash",
    "content",
    "national_id",
    "version",
    "updated_at",
    "reason",
)

# external_id, source_hash, content, national_id, version, updated_at, reason: a plain tuple, as a million of them are made.
StagedRecord: TypeAlias = tuple[str | None, bytes | None, bytes | None, str | None, int | None, datetime | None, str | None]


@dataclass(frozen=True, slots=True)
class Keys:
    """What one reading holds: distinct keys, records that repeat one, records without one."""

    keys: int
    repetitions: int
    keyless: int
    newest_update: datetime | None


async def discard_staging(tx: Tx, job_id: JobId) -> None:
    """Empty it of this job's records, and of those whose job does not run any more."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["discard_staging"].sql, job_id, timeout=SLOW_SECONDS)


async def copy_into_staging(tx: Tx, job_id: JobId, reading: int, records: Sequence[StagedRecord]) -> None:
    """Add the records of a page."""
    head = (job_id, reading)
    await write_for_now(tx)
    await tx.copy_records_to_table(_TABLE, records=[head + record for record in records], columns=_COLUMNS)


async def analyze_staging(tx: Tx) -> None:
    """Let the planner know how much there is."""
    await sample_little(tx)
    await tx.execute(_SQL["analyze_staging"].sql, timeout=SLOW_SECONDS)


async def count_keys(tx: Tx, job_id: JobId, reading: int) -> Keys:
    """Count what a reading holds."""
    await plan_for_bulk(tx)
    record = await tx.fetchrow(_SQL["count_keys"].sql, job_id, reading, timeout=SLOW_SECONDS)
    if record is None:
        raise RuntimeError("an aggregate has one row")
    return Keys(**record)


async def count_staged(tx: Tx, job_id: JobId, reading: int) -> int:
    """How many records of a reading are there."""
    await plan_for_bulk(tx)
    staged: int = await tx.fetchval(_SQL["count_staged"].sql, job_id, reading, timeout=SLOW_SECONDS)
    return staged


async def mark_contradictions(tx: Tx, job_id: JobId, reason: str) -> None:
    """Take nothing of keys that the snapshot tells two things of."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["mark_contradictions"].sql, job_id, reason, timeout=SLOW_SECONDS)


async def delete_repetitions(tx: Tx, job_id: JobId) -> None:
    """Keep the newest record of each key."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["delete_repetitions"].sql, job_id, timeout=SLOW_SECONDS)
