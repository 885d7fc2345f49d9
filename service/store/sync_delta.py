"""Where a snapshot and the members differ: found by one comparison, read back in batches, and thrown away."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from service.domain.directories.delta import Difference
from service.domain.jobs import JobId
from service.domain.member import CompanyId, ConnectionId
from service.store.bulk import SLOW_SECONDS, plan_as_it_is, plan_by_keys, plan_for_bulk, sample_little
from service.store.queries import queries
from service.store.sync_pages import Sightings

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "DeltaCount",
    "DeltaRow",
    "analyze_delta",
    "compare_kept",
    "count_delta",
    "count_unlisted_removals",
    "digest_members",
    "discard_delta",
    "drop_absent",
    "drop_those_present",
    "drop_those_replaced",
    "find_absent",
    "pair_by_national_id",
    "read_delta",
    "unpair_those_present",
]

_SQL: Final = queries("sync_delta")
# A dictionary finds them faster than their class does.
_DIFFERENCES: Final = {what.value: what for what in Difference}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRow:
    """One difference; of somebody absent `version` is what is remembered of the member's source."""

    place: int
    what: Difference
    external_id: str | None
    member_id: UUID | None
    source_hash: bytes | None
    content: bytes | None = field(repr=False)
    version: int | None
    updated_at: datetime | None
    replaces: str | None
    replaces_live: bool
    reason: str | None
    # It neither takes nor gives up what another difference may be about.
    independent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaCount:
    """How many records differ in one way, how many of them are live members, and how many replace another key."""

    what: Difference
    records: int
    live: int
    replacing: int


async def discard_delta(tx: Tx, job_id: JobId) -> None:
    """Empty it of this job's differences, and of those whose job does not run any more."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["discard_delta"].sql, job_id, timeout=SLOW_SECONDS)


async def analyze_delta(tx: Tx) -> None:
    """Let the planner know how much there is."""
    await sample_little(tx)
    await tx.execute(_SQL["analyze_delta"].sql, timeout=SLOW_SECONDS)


async def compare_kept(tx: Tx, job_id: JobId, connection_id: ConnectionId, removal_hash: bytes, *, few: bool) -> None:
    """Find where the kept records and the connection's members differ: by the members' keys, of which there may be `few` or all."""
    # After a first import the server takes many members for few until it has counted them, and reads them all through.
    await (plan_by_keys(tx) if few else plan_as_it_is(tx))
    await tx.execute(_SQL["compare_kept"].sql, job_id, connection_id, removal_hash, timeout=SLOW_SECONDS)


async def digest_members(tx: Tx, connection_id: ConnectionId, began_at: datetime, seed: int) -> Sightings:
    """Everybody whom a snapshot that began then could call absent, to be compared with whom it names."""
    await plan_for_bulk(tx)
    record = await tx.fetchrow(_SQL["digest_members"].sql, connection_id, began_at, seed, timeout=SLOW_SECONDS)
    if record is None:
        raise RuntimeError("an aggregate has one row")
    return Sightings(**record)


async def find_absent(tx: Tx, job_id: JobId, connection_id: ConnectionId, began_at: datetime) -> None:
    """Find the live members of whom the first reading has nothing."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["find_absent"].sql, job_id, connection_id, began_at, timeout=SLOW_SECONDS)


async def pair_by_national_id(
    tx: Tx, job_id: JobId, company_id: CompanyId, connection_id: ConnectionId, began_at: datetime
) -> None:
    """Find the keys that new ones may replace, whether or not the snapshot has them."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["pair_by_national_id"].sql, job_id, company_id, connection_id, began_at, timeout=SLOW_SECONDS)


async def unpair_those_present(tx: Tx, job_id: JobId, reading: int) -> None:
    """Let no key be replaced that the reading has."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["unpair_those_present"].sql, job_id, reading, timeout=SLOW_SECONDS)


async def drop_those_present(tx: Tx, job_id: JobId, reading: int) -> None:
    """Call nobody absent whom the reading has."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["drop_those_present"].sql, job_id, reading, timeout=SLOW_SECONDS)


async def drop_those_replaced(tx: Tx, job_id: JobId) -> None:
    """Call nobody absent who has a new key."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["drop_those_replaced"].sql, job_id, timeout=SLOW_SECONDS)


async def drop_absent(tx: Tx, job_id: JobId) -> None:
    """Call nobody absent, and let no key be replaced."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["drop_absent"].sql, job_id, timeout=SLOW_SECONDS)


async def count_delta(tx: Tx, job_id: JobId) -> dict[Difference, DeltaCount]:
    """How many differences there are, by their kind."""
    await plan_for_bulk(tx)
    counts = [
        DeltaCount(**{**dict(record), "what": Difference(record["what"])})
        for record in await tx.fetch(_SQL["count_delta"].sql, job_id, timeout=SLOW_SECONDS)
    ]
    return {count.what: count for count in counts}


async def count_unlisted_removals(tx: Tx, job_id: JobId, log_id: UUID) -> int:
    """How many would be removed whom the list of that run does not name."""
    await plan_for_bulk(tx)
    unlisted: int = await tx.fetchval(_SQL["count_unlisted_removals"].sql, job_id, log_id, timeout=SLOW_SECONDS)
    return unlisted


async def read_delta(tx: Tx, job_id: JobId, after: int, limit: int) -> list[DeltaRow]:
    """The next differences behind the place `after`."""
    return [_row(dict(record)) for record in await tx.fetch(_SQL["read_delta"].sql, job_id, after, limit)]


def _row(values: dict[str, Any]) -> DeltaRow:
    values["what"] = _DIFFERENCES[values["what"]]
    return DeltaRow(**values)
