"""Read a directory to its end, a page at a time, and keep what says something new: memory does not grow with the directory."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from time import monotonic
from typing import TYPE_CHECKING, Final, assert_never

from service.actions.side_by_side import SideBySide
from service.clients.directories.source import Record, Source
from service.domain.change import VersionKind
from service.domain.directories.delta import Reading
from service.domain.directories.mapped_page import MappedPage, mapped_page
from service.domain.directories.mapping import DirectoryMapping
from service.domain.directories.tally import Tally
from service.domain.errors import Park, Unavailable
from service.domain.member import ConnectionId
from service.domain.source_mapping import microseconds
from service.store.bulk import write_for_now
from service.store.sync_pages import (
    Held,
    ReadPage,
    Sightings,
    compare_page,
    count_keys,
    count_pages,
    delete_repetitions,
    insert_page,
    mark_contradictions,
)
from service.store.sync_staging import StagedRecord, analyze_staging, copy_into_staging
from service.translation import REMOVAL_HASH

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database, Tx

__all__ = ["SNAPSHOT_LOST", "Keep", "Meaning", "Staged", "check_held", "stage_snapshot"]

# Staging is not logged: a database that crashes empties it, and comes back as if nothing were missing.
SNAPSHOT_LOST: Final = "the database lost what was read of the directory, as it does when it crashes"

# Records, half a millisecond's worth.
_STEP: Final = 200
# Pages are settled together until they are so many records, or bytes: a transaction takes as long as some hundred records.
_TOGETHER: Final = 4000
_TOGETHER_BYTES: Final = 4 * 1024 * 1024
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


class Keep(Enum):
    """Which records of a reading are kept with what they say; the keys of all of them always are."""

    # Those that are not what is remembered of the connection's members.
    NEWS = auto()
    EVERYTHING = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Staged:
    """A reading, and what must be found in the database of it by whoever relies on that."""

    reading: Reading
    held: Held
    # Whom it names of those who could be absent, and the seed of that; None where nobody was looked up.
    seen: Sightings | None
    seed: int


async def stage_snapshot(
    db: Database,
    job: RunningJob,
    source: Source,
    meaning: Meaning,
    connection_id: ConnectionId,
    *,
    keep: Keep,
    since: datetime | None,
    began_at: datetime,
) -> Staged:
    """One reading of the source; raises its errors, Retry errors (the database lost it, too) and StopJob.

    It is the second where NOTHING is kept, else the first. Of that, each key stays once; what is repeated with other content, at no
    newer version, is marked.
    """
    reading = 2 if keep is Keep.NOTHING else 1
    pages = records = kept = 0
    tally = Tally()
    seen, seed = Sightings(), secrets.randbits(63)
    first_count: int | None = None
    last_count: int | None = None
    began = monotonic()

    async def settle(page: MappedPage) -> None:
        nonlocal kept, seen
        async with db.transaction() as tx:
            # Another worker that took the job over counts what is here.
            await job.hold(tx)
            await write_for_now(tx)
            settled = await _settle(tx, job, connection_id, meaning, page, keep, began_at=began_at, seed=seed)
        kept += settled.kept
        seen += settled.seen

    # While the database looks pages through, the next ones are mapped.
    async with SideBySide(1) as steps, aclosing(source.pages(since)) as read:
        waiting = MappedPage()
        async for page in read:
            mapped = await _mapped(meaning.mapping, page.records)
            tally.add(mapped.external_ids, mapped.updated_ats)
            waiting.extend(mapped)
            if len(waiting.external_ids) >= _TOGETHER or waiting.content_bytes >= _TOGETHER_BYTES:
                await steps.run(settle(waiting))
                waiting = MappedPage()
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
        if waiting.external_ids:
            await steps.run(settle(waiting))
    held = Held(records - tally.keyless, kept)
    keys = tally.keys
    if not tally.in_order:
        keys, held = await _settle_keys(db, job, reading, held)
    if held.kept:
        async with db.transaction() as tx:
            await analyze_staging(tx)
    return Staged(
        Reading(
            pages=pages,
            records=records,
            keys=keys,
            keyless=tally.keyless,
            first_count=first_count,
            last_count=last_count,
            newest_update=tally.newest_update,
        ),
        held,
        seen if keep is Keep.NEWS else None,
        seed,
    )


async def check_held(tx: Tx, job: RunningJob, reading: int, held: Held) -> None:
    """In the transaction that relies on it: what is missing would pass for members who have left; raises Unavailable."""
    found = await count_pages(tx, job.id, reading)
    # Of the second nothing is kept.
    if found.keyed != held.keyed or (reading == 1 and found.kept != held.kept):
        raise Unavailable(SNAPSHOT_LOST)


@dataclass(frozen=True, slots=True)
class _Settled:
    """What came of a page: how many of its records are kept, and whom it names."""

    kept: int
    seen: Sightings = field(default_factory=Sightings)


async def _settle(
    tx: Tx,
    job: RunningJob,
    connection_id: ConnectionId,
    meaning: Meaning,
    page: MappedPage,
    keep: Keep,
    *,
    began_at: datetime,
    seed: int,
) -> _Settled:
    """Note a page, and keep what is to be kept of it."""
    versions = _versions(meaning.version_kind, page)
    keyless = [place for place, key in enumerate(page.external_ids) if key is None]
    keyed = [place for place, key in enumerate(page.external_ids) if key is not None] if keyless else range(len(page.external_ids))
    kept: Sequence[int] = ()
    seen = Sightings()
    if keyed:
        read = ReadPage(
            [key for key in page.external_ids if key is not None],
            [page.source_hashes[place] for place in keyed] if keyless else page.source_hashes,
            None if versions is None else [versions[place] for place in keyed],
        )
        match keep:
            case Keep.NEWS:
                found = await compare_page(tx, job.id, connection_id, read, REMOVAL_HASH, began_at=began_at, seed=seed)
                kept, seen = [keyed[place] for place in found.places], found.seen
            case Keep.EVERYTHING:
                await insert_page(tx, job.id, 1, read, with_hashes=True)
                kept = keyed
            case Keep.NOTHING:
                await insert_page(tx, job.id, 2, read, with_hashes=False)
            case _:
                assert_never(keep)
    if keep is Keep.NOTHING:
        return _Settled(0)
    staged = [_staged(meaning, page, versions, place) for place in (*kept, *keyless)]
    if staged:
        await copy_into_staging(tx, job.id, staged)
    return _Settled(len(staged), seen)


async def _settle_keys(db: Database, job: RunningJob, reading: int, held: Held) -> tuple[int, Held]:
    """How many distinct keys there are where their order does not tell, and what is held once the first reading has each once."""
    async with db.transaction() as tx:
        await job.hold(tx)
        await check_held(tx, job, reading, held)
        keys = await count_keys(tx, job.id, reading)
        if keys < held.keyed and reading == 1:
            await mark_contradictions(tx, job.id, _CONTRADICTS)
            await delete_repetitions(tx, job.id)
            held = await count_pages(tx, job.id, reading)
    return keys, held


def _speed(done: int, of: int | None, seconds: float) -> Mapping[str, float | None]:
    rate = done / seconds if seconds > 0 else 0.0
    left = max(0, of - done) if of is not None else None
    return {"rate": round(rate, 1), "eta_seconds": round(left / rate, 1) if left is not None and rate > 0 else None}


async def _mapped(mapping: DirectoryMapping, records: Sequence[Record]) -> MappedPage:
    """Map a page in short steps: whatever else the process does, what is done of the page before among it, goes on between them."""
    page = MappedPage()
    for first in range(0, len(records), _STEP):
        page.extend(mapped_page(mapping, records[first : first + _STEP]))
        await asyncio.sleep(0)
    return page


def _versions(kind: VersionKind, page: MappedPage) -> Sequence[int | None] | None:
    """By which the records are ordered; None where nothing orders them."""
    match kind:
        case VersionKind.SEQUENCE:
            return page.versions
        case VersionKind.UPDATED_AT:
            return [None if at is None else microseconds(at) for at in page.updated_ats]
        case VersionKind.NONE:
            return None
        case _:
            assert_never(kind)


def _staged(meaning: Meaning, page: MappedPage, versions: Sequence[int | None] | None, place: int) -> StagedRecord:
    key, reason = page.external_ids[place], page.reasons.get(place)
    if reason is not None:
        return key, None, None, None, None, None, reason
    national_id = page.national_ids[place] if meaning.national_ids else None
    return (
        key,
        page.source_hashes[place],
        page.contents[place],
        national_id if isinstance(national_id, str) else None,
        None if versions is None else versions[place],
        page.updated_ats[place],
        None,
    )
