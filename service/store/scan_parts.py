"""Parts of scans: what each provider came to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from service.domain.scans import PartState
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["ScanPartRow", "begin_part", "count_in_part", "finish_part", "give_up_parts", "list_parts"]

_SQL: Final = queries("scan_parts")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPartRow:
    """A part as people see it: findings that it found, of these the new ones, and those that it found no more."""

    scan_id: UUID
    provider: str
    state: str
    started_at: datetime
    finished_at: datetime | None
    found: int
    opened: int
    resolved: int
    error: str | None


async def begin_part(tx: Tx, scan_id: UUID, provider: str) -> bool:
    """Open a provider's part, or go on with it; False where it has ended."""
    return await tx.fetchval(_SQL["begin_part"].sql, scan_id, provider) is not None


async def count_in_part(tx: Tx, scan_id: UUID, provider: str, *, found: int = 0, opened: int = 0, resolved: int = 0) -> None:
    """Count what came of a batch."""
    await tx.execute(_SQL["count_in_part"].sql, scan_id, provider, found, opened, resolved)


async def finish_part(tx: Tx, scan_id: UUID, provider: str, state: PartState, error: str | None = None) -> None:
    """Close a part, or let it wait for another attempt."""
    await tx.execute(_SQL["finish_part"].sql, scan_id, provider, state, error)


async def give_up_parts(tx: Tx, scan_id: UUID) -> None:
    """Close what has not come to its end as failed."""
    await tx.execute(_SQL["give_up_parts"].sql, scan_id)


async def list_parts(tx: Tx, scan_ids: Collection[UUID]) -> list[ScanPartRow]:
    """The parts of some scans, by scan and name."""
    return [ScanPartRow(**record) for record in await tx.fetch(_SQL["list_parts"].sql, list(scan_ids))]
