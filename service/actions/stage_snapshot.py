"""Read a directory to its end into staging, a page at a time: memory does not grow with the directory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Final, assert_never

from service.actions.side_by_side import SideBySide
from service.clients.directories.source import Record, Source
from service.domain.change import VersionKind
from service.domain.directories.delta import Reading
from service.domain.directories.mapping import DirectoryMapping, Unmappable, mapped_record
from service.domain.directories.tally import Tally
from service.domain.errors import Park, Unavailable
from service.domain.source_mapping import microseconds
from service.store.sync_staging import (
    StagedRecord,
    analyze_staging,
    copy_into_staging,
    count_keys,
    delete_repetitions,
    mark_contradictions,
)

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database

__all__ = ["SNAPSHOT_LOST", "Meaning", "stage_snapshot"]

# Staging is not logged: a database that crashes empties it, and comes back as if nothing were missing.
SNAPSHOT_LOST: Final = "the database lost what was read of the directory, as it does when it crashes"

# Records, half a millisecond's worth.
_STEP: Final = 100
# Of a staged record.
_KEY: Final = 0
_UPDATED_AT: Final = 5
_CONTRADICTS: Final = "the directory tells of this key more than once, and not the same"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a connection's records mean, and how they are ordered."""

    mapping: DirectoryMapping
    version_kind: VersionKind
    # By it, too, members are known.
    national_ids: bool

    def check(self) -> None:
        """Raise Park where the records cannot be ordered as the connection wants it."""
        lacks = {
            VersionKind.SEQUENCE: self.mapping.version is None and self.mapping.updated_at is None,
            VersionKind.UPDATED_AT: self.mapping.updated_at is None,
            VersionKind.NONE: False,
        }
        if lacks[self.version_kind]:
            named = "version or updatedAt" if self.version_kind is VersionKind.SEQUENCE else "updatedAt"
            message = f"the connection's changes are ordered by {self.version_kind.value}, and its mapping names no {named}"
            raise Park(message)


async def stage_snapshot(
    db: Database, job: RunningJob, source: Source, meaning: Meaning, *, reading: int, since: datetime | None
) -> Reading:
    """One reading of the source, in staging; raises the source's errors, Retry errors (staging lost it, too) and StopJob.

    Of the first reading each key stays once. What is repeated with other content, at no newer version, is marked.
    """
    pages = records = 0
    tally = Tally()
    first_count: int | None = None
    last_count: int | None = None
    began = monotonic()

    async def keep(staged: Sequence[StagedRecord]) -> None:
        async with db.transaction() as tx:
            # Another worker that took the job over counts what is here.
            await job.hold(tx)
            await copy_into_staging(tx, job.id, reading, staged)

    # While the database takes a page in, the next one is mapped.
    async with SideBySide(1) as copies, aclosing(source.pages(since)) as read:
        async for page in read:
            if staged := await _mapped(meaning, page.records):
                tally.add([record[_KEY] for record in staged], [record[_UPDATED_AT] for record in staged])
                await copies.run(keep(staged))
            pages += 1
            records += len(page.records)
            first_count = page.count if pages == 1 else first_count
            last_count = page.count
            await job.progress(
                phase="fetch" if reading == 1 else "look again",
                fetched=records,
                of=page.count,
                **_speed(records, page.count, monotonic() - began),
            )
    async with db.transaction() as tx:
        await analyze_staging(tx)
    return Reading(
        pages=pages,
        records=records,
        keys=tally.keys if tally.in_order else await _settle_keys(db, job, reading, records),
        keyless=tally.keyless,
        first_count=first_count,
        last_count=last_count,
        newest_update=tally.newest_update,
    )


async def _settle_keys(db: Database, job: RunningJob, reading: int, records: int) -> int:
    """How many distinct keys there are where their order does not tell; of the first reading each stays once."""
    async with db.transaction() as tx:
        keys = await count_keys(tx, job.id, reading)
    if keys.keys + keys.repetitions + keys.keyless != records:
        raise Unavailable(SNAPSHOT_LOST)
    if keys.repetitions and reading == 1:
        async with db.transaction() as tx:
            await job.hold(tx)
            await mark_contradictions(tx, job.id, _CONTRADICTS)
            await delete_repetitions(tx, job.id)
    return keys.keys


def _speed(done: int, of: int | None, seconds: float) -> Mapping[str, float | None]:
    rate = done / seconds if seconds > 0 else 0.0
    left = max(0, of - done) if of is not None else None
    return {"rate": round(rate, 1), "eta_seconds": round(left / rate, 1) if left is not None and rate > 0 else None}


async def _mapped(meaning: Meaning, records: Sequence[Record]) -> list[StagedRecord]:
    """Map a page in short steps: whatever else the process does, the copy of the page before among it, goes on between them."""
    staged: list[StagedRecord] = []
    for first in range(0, len(records), _STEP):
        staged += [_staged(meaning, record) for record in records[first : first + _STEP]]
        await asyncio.sleep(0)
    return staged


def _staged(meaning: Meaning, record: Record) -> StagedRecord:
    mapped = mapped_record(meaning.mapping, record)
    if isinstance(mapped, Unmappable):
        return mapped.external_id, None, None, None, None, None, mapped.reason
    version: int | None
    match meaning.version_kind:
        case VersionKind.SEQUENCE:
            version = mapped.version
        case VersionKind.UPDATED_AT:
            version = None if mapped.updated_at is None else microseconds(mapped.updated_at)
        case VersionKind.NONE:
            version = None
        case _:
            assert_never(meaning.version_kind)
    national_id = mapped.fields.get("national_id") if meaning.national_ids and mapped.fields is not None else None
    return (
        mapped.external_id,
        mapped.source_hash,
        mapped.content,
        national_id if isinstance(national_id, str) else None,
        version,
        mapped.updated_at,
        None,
    )
