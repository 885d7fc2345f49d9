"""All records of a directory's snapshot beside the members, not only those that differ; the tables are those of a sync."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from service.domain.directories.delta import Difference
from service.domain.jobs import JobId
from service.domain.member import ConnectionId
from service.store.bulk import SLOW_SECONDS, plan_for_bulk
from service.store.queries import queries
from service.store.sync_delta import DeltaRow

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["add_those_equal", "count_records", "read_records_at"]

_SQL: Final = queries("directory_drift")


async def add_those_equal(tx: Tx, job_id: JobId, connection_id: ConnectionId, removal_hash: bytes) -> None:
    """Add to the differences those records that say what was last told."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["add_those_equal"].sql, job_id, connection_id, removal_hash, timeout=SLOW_SECONDS)


async def count_records(tx: Tx, job_id: JobId) -> int:
    """The last place, of which the first is 1; some before it may be empty."""
    await plan_for_bulk(tx)
    places: int = await tx.fetchval(_SQL["count_records"].sql, job_id, timeout=SLOW_SECONDS)
    return places


async def read_records_at(tx: Tx, job_id: JobId, places: Sequence[int]) -> list[DeltaRow]:
    """The records at these places."""
    records = await tx.fetch(_SQL["read_records_at"].sql, job_id, places)
    return [DeltaRow(**{**dict(record), "what": Difference(record["what"])}) for record in records]
