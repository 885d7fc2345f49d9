"""Which records a running sync has read, page by page, and which of them say something else than what is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from service.domain.jobs import JobId
from service.domain.member import ConnectionId
from service.domain.source_hash import HASH_BYTES
from service.store.bulk import SLOW_SECONDS, plan_for_bulk, plan_once
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "Held",
    "PageFindings",
    "ReadPage",
    "Sightings",
    "compare_page",
    "count_keys",
    "count_pages",
    "delete_repetitions",
    "discard_pages",
    "insert_page",
    "mark_contradictions",
]

_SQL: Final = queries("sync_pages")
# No key holds a control character.
_BETWEEN_KEYS: Final = "\x1f"
_NO_HASH: Final = bytes(HASH_BYTES)


@dataclass(frozen=True, slots=True)
class ReadPage:
    """The keys of a page, one at least, and what it says of them; sent as one text and one piece of bytes, which costs nothing."""

    keys: Sequence[str]
    # None of a record that means nothing.
    hashes: Sequence[bytes | None] = field(repr=False)
    # None: nothing has a version.
    versions: Sequence[int | None] | None = None

    @property
    def joined_keys(self) -> str:
        """All keys."""
        return _BETWEEN_KEYS.join(self.keys)

    @property
    def joined_hashes(self) -> bytes:
        """All hashes."""
        return b"".join([_NO_HASH if one is None else one for one in self.hashes])


@dataclass(frozen=True, slots=True)
class Held:
    """How many records with a key the pages of a reading hold, and how many records are kept of the first one."""

    keyed: int
    kept: int


@dataclass(frozen=True, slots=True)
class Sightings:
    """A set of members: how many, and the exclusive or of their keys' hashes, so that sets are compared without their members.

    Two sets with one digest are the same, but for one chance in 2^64 for each comparison: the seed is new for each reading, so
    nobody can choose keys that meet it.
    """

    members: int = 0
    digest: int = 0

    def __add__(self, other: Sightings) -> Sightings:
        """Both sets, which must not have a member in common: one that is in both is in neither, and counts twice."""
        return Sightings(self.members + other.members, self.digest ^ other.digest)


@dataclass(frozen=True, slots=True)
class PageFindings:
    """The places, from 0, of the records that are not what is remembered, and whom the page names who could be absent."""

    places: Sequence[int]
    seen: Sightings


async def discard_pages(tx: Tx, job_id: JobId) -> None:
    """Forget what this job has read, and those whose job does not run any more."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["discard_pages"].sql, job_id, timeout=SLOW_SECONDS)


async def insert_page(tx: Tx, job_id: JobId, reading: int, page: ReadPage, *, with_hashes: bool) -> None:
    """Note what a page holds."""
    hashes, versions = (page.joined_hashes, page.versions) if with_hashes else (None, None)
    await tx.execute(_SQL["insert_page"].sql, job_id, reading, page.joined_keys, hashes, versions)


async def compare_page(
    tx: Tx, job_id: JobId, connection_id: ConnectionId, page: ReadPage, removal_hash: bytes, *, began_at: datetime, seed: int
) -> PageFindings:
    """Note a page of the first reading, and find in it what is not what is remembered, and who is there."""
    # The server plans the first five pages for their very keys, and reads all members through while it has not counted them.
    await plan_once(tx)
    arguments = (job_id, connection_id, page.joined_keys, page.joined_hashes, page.versions, removal_hash, began_at, seed)
    record = await tx.fetchrow(_SQL["compare_page"].sql, *arguments)
    if record is None:
        raise RuntimeError("an aggregate has one row")
    return PageFindings([place - 1 for place in record["places"] or ()], Sightings(record["members"], record["digest"]))


async def count_pages(tx: Tx, job_id: JobId, reading: int) -> Held:
    """How much of a reading there is."""
    await plan_for_bulk(tx)
    record = await tx.fetchrow(_SQL["count_pages"].sql, job_id, reading, timeout=SLOW_SECONDS)
    if record is None:
        raise RuntimeError("an aggregate has one row")
    return Held(**record)


async def count_keys(tx: Tx, job_id: JobId, reading: int) -> int:
    """How many distinct keys a reading has."""
    await plan_for_bulk(tx)
    keys: int = await tx.fetchval(_SQL["count_keys"].sql, job_id, reading, timeout=SLOW_SECONDS)
    return keys


async def mark_contradictions(tx: Tx, job_id: JobId, reason: str) -> None:
    """Take nothing of keys that the snapshot tells two things of."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["mark_contradictions"].sql, job_id, reason, timeout=SLOW_SECONDS)


async def delete_repetitions(tx: Tx, job_id: JobId) -> None:
    """Keep the newest record of each key, where it differs from what is known."""
    await plan_for_bulk(tx)
    await tx.execute(_SQL["delete_repetitions"].sql, job_id, timeout=SLOW_SECONDS)
