"""What a sync says of single records: its problems, a dry run's differences, a quarantined run's removals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from service.domain.directories.delta import Count
from service.domain.jobs import JobId
from service.store.bulk import SLOW_SECONDS, plan_for_bulk
from service.store.queries import queries
from service.store.rows import column_names, columns

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["NewEntry", "SyncEntry", "discard_entries", "insert_entries", "list_entries", "list_removals"]

_SQL: Final = queries("sync_entries")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """What is to be said of a record; `changes` are `{field: {before, after}}`, and personal."""

    what: Count
    external_id: str | None
    member_id: UUID | None = None
    reason: str | None = None
    changes: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncEntry:
    """What was said of a record."""

    id: int
    what: str
    external_id: str | None
    member_id: UUID | None
    reason: str | None
    changes: Mapping[str, Any] | None = field(repr=False)


_COLUMNS: Final = column_names(NewEntry)


async def insert_entries(tx: Tx, log_id: UUID, entries: Sequence[NewEntry]) -> None:
    """Say it, in this order."""
    if entries:
        await tx.execute(_SQL["insert_entries"].sql, log_id, *columns(_COLUMNS, entries))


async def list_removals(tx: Tx, log_id: UUID, job_id: JobId) -> None:
    """Say whom the comparison of this job would remove, and what it could not process."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["list_removals"].sql, log_id, job_id, timeout=SLOW_SECONDS)


async def discard_entries(tx: Tx, log_id: UUID) -> None:
    """Unsay what an earlier attempt said."""
    await tx.execute(_SQL["discard_entries"].sql, log_id, timeout=SLOW_SECONDS)


async def list_entries(tx: Tx, log_id: UUID, *, what: Count | None = None, after: int = 0, limit: int = 100) -> list[SyncEntry]:
    """What a run said, in order, above the entry `after`; the caller knows that the run is the company's."""
    return [SyncEntry(**record) for record in await tx.fetch(_SQL["list_entries"].sql, log_id, after, what, limit)]
