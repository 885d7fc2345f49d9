"""A page is compared by its keys, and of what a reading tells twice one record stays, whichever of them was kept."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from service.domain.jobs import JobId
from service.domain.member import ConnectionId
from service.store.database import Database, Tx
from service.store.sync_delta import digest_members
from service.store.sync_pages import (
    Held,
    PageFindings,
    ReadPage,
    Sightings,
    compare_page,
    count_keys,
    count_pages,
    delete_repetitions,
    insert_page,
    mark_contradictions,
)
from service.store.sync_staging import copy_into_staging

JOB = JobId(UUID(int=7))
COMPANY, CONNECTION = UUID(int=1), ConnectionId(UUID(int=2))
KNOWN, REMOVAL = b"k" * 16, b"r" * 16
WHY = "two things"


class Copy(NamedTuple):
    """A record: its key, its version, and its hash, None where it means nothing."""

    key: str
    version: int | None
    source_hash: bytes | None


@pytest.fixture
async def database(module_database_url: str) -> AsyncIterator[Database]:
    """Members a to e with the hash KNOWN at version 5; f has left, g is a tombstone."""
    database = await Database.connect(module_database_url, name="tests", size=2)
    async with database.transaction() as tx:
        await tx.execute("truncate sync_pages, sync_staging; delete from members; delete from connections; delete from companies")
        await tx.execute("insert into companies (id, name) values ($1, 'Company')", COMPANY)
        await tx.execute(
            """
            insert into connections (id, company_id, name, kind, version_kind, mapped_fields)
            values ($2, $1, 'first', 'stream', 'sequence', array['name'])
            """,
            COMPANY,
            CONNECTION,
        )
        await tx.execute(
            """
            insert into members (
                id, company_id, connection_id, external_id, name, upstream_state, state, version, source_hash, source_version,
                removed_at, upstream_applied_at
            )
            select gen_random_uuid(), $1, $2, key, 'Anna', state, state, version, $3, 5,
                case state when 'removed' then now() end, now()
            from unnest('{a,b,c,d,e,f,g}'::text[]) as k (key)
            cross join lateral (
                select case when key < 'f' then 'active' else 'removed' end as state, case key when 'g' then 0 else 1 end as version
            ) s
            """,
            COMPANY,
            CONNECTION,
            KNOWN,
        )
    yield database
    await database.close()


# By the fixture's clock the members were last told of before it.
LATER = datetime(2100, 1, 1, tzinfo=UTC)
SEED = 42


async def compared(tx: Tx, page: ReadPage, began_at: datetime = LATER) -> PageFindings:
    return await compare_page(tx, JOB, CONNECTION, page, REMOVAL, began_at=began_at, seed=SEED)


async def differing(database: Database, copies: Sequence[Copy], *, versioned: bool = True) -> list[str]:
    page = ReadPage([c.key for c in copies], [c.source_hash for c in copies], [c.version for c in copies] if versioned else None)
    async with database.transaction() as tx:
        found = await compared(tx, page)
    return [copies[place].key for place in found.places]


async def called(database: Database, *pages: str, began_at: datetime = LATER) -> Sightings:
    """Whom pages of one-letter keys name of those who could be absent."""
    seen = Sightings()
    for page in pages:
        async with database.transaction() as tx:
            seen += (await compared(tx, ReadPage(list(page), [KNOWN] * len(page)), began_at)).seen
    return seen


async def complete(database: Database, seen: Sightings, began_at: datetime = LATER) -> bool:
    async with database.transaction() as tx:
        return await digest_members(tx, CONNECTION, began_at, SEED) == seen


async def test_everybody_is_present_who_is_named_whatever_the_order_and_the_pages(database: Database) -> None:
    for pages in (["abcde"], ["ed", "cba"], ["c", "adxyz", "efgb"]):
        assert await complete(database, await called(database, *pages)), pages


@pytest.mark.parametrize("pages", [["abcd"], ["abcdx"], ["abcdf"], ["abcdd"], ["abcd", "d"], ["abcdee"], ["abcde", "ab"]])
async def test_who_is_named_not_at_all_or_twice_leaves_it_open(database: Database, pages: list[str]) -> None:
    assert not await complete(database, await called(database, *pages))


async def test_what_the_stream_does_meanwhile_leaves_it_open_or_is_no_matter(database: Database) -> None:
    async with database.transaction() as tx:
        began_at = await tx.fetchval("select clock_timestamp()")

    async def touch(*keys: str) -> None:
        async with database.transaction() as tx:
            await tx.execute("update members set upstream_applied_at = clock_timestamp() where external_id = any ($1)", list(keys))

    await touch("a")
    # By the stream, since the snapshot began: whether the directory names it or not, it is not absent.
    assert await complete(database, await called(database, "abcde", began_at=began_at), began_at)
    assert await complete(database, await called(database, "bcde", began_at=began_at), began_at)
    # One was named before it was touched, and another is absent: as many, and not the same.
    seen = await called(database, "bcd", began_at=began_at)
    await touch("b")
    assert not await complete(database, seen, began_at)


async def test_a_reading_s_digest_is_of_its_seed(database: Database) -> None:
    seen = await called(database, "abcde")
    async with database.transaction() as tx:
        assert await digest_members(tx, CONNECTION, LATER, SEED + 1) != seen


async def test_what_says_the_same_at_no_newer_version_is_not_news(database: Database) -> None:
    copies = [Copy("a", 5, KNOWN), Copy("b", 6, KNOWN), Copy("c", 5, b"x" * 16), Copy("d", 4, KNOWN), Copy("new", 1, KNOWN)]
    copies += [Copy("e", 5, None), Copy("gone", 1, REMOVAL), Copy("f", 5, KNOWN)]
    assert await differing(database, copies) == ["b", "c", "new", "e", "gone"]
    async with database.transaction() as tx:
        assert await count_pages(tx, JOB, 1) == Held(8, 0)
        assert await count_pages(tx, JOB, 2) == Held(0, 0)


async def test_without_versions_the_departure_of_somebody_unknown_is_no_news(database: Database) -> None:
    copies = [Copy("gone", None, REMOVAL), Copy("a", None, REMOVAL), Copy("b", None, KNOWN), Copy("new", None, KNOWN)]
    assert await differing(database, copies, versioned=False) == ["a", "new"]


async def test_what_was_understood_otherwise_is_news_whatever_it_says(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("update connections set meaning_changed_at = now() + interval '1 hour'")
    assert await differing(database, [Copy("a", 5, KNOWN)]) == ["a"]


async def test_keys_are_whatever_text_they_are(database: Database) -> None:
    keys = ["a,b", '"', "{a}", "\\", " ", "ö", "null", "a" * 255]
    async with database.transaction() as tx:
        await insert_page(tx, JOB, 2, ReadPage(keys, [KNOWN] * len(keys)), with_hashes=False)
        await insert_page(tx, JOB, 2, ReadPage(keys[:3], [KNOWN] * 3), with_hashes=False)
        assert await count_keys(tx, JOB, 2) == len(keys)
        assert await count_pages(tx, JOB, 2) == Held(len(keys) + 3, 0)


def left_of(copies: Sequence[Copy], kept: set[int]) -> dict[str, Any]:
    """What stays of each key: `WHY`, or the version and hash of its newest record where one of those was kept."""
    left: dict[str, Any] = {}
    for key in {copy.key for copy in copies}:
        own = [(place, copy) for place, copy in enumerate(copies) if copy.key == key]
        newest = max((copy.version for _, copy in own if copy.version is not None), default=None)
        latest = [(place, copy) for place, copy in own if copy.version == newest]
        if len({copy.source_hash for _, copy in latest}) > 1:
            left[key] = WHY
        elif any(place in kept for place, _ in latest):
            left[key] = (newest, latest[0][1].source_hash)
    return left


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("versioned", [True, False])
async def test_of_a_key_that_comes_more_than_once_the_newest_record_stays(database: Database, seed: int, versioned: bool) -> None:
    chance = random.Random(seed)
    copies = [
        Copy(
            chance.choice("abcwxyz"), chance.choice([None, 5, 6, 6]) if versioned else None, chance.choice([KNOWN, b"x" * 16, None])
        )
        for _ in range(14)
    ]
    # What means nothing has no version either.
    copies = [copy if copy.source_hash is not None else copy._replace(version=None) for copy in copies]
    kept: set[int] = set()
    for first in range(0, len(copies), 5):
        page = copies[first : first + 5]
        read = ReadPage([c.key for c in page], [c.source_hash for c in page], [c.version for c in page] if versioned else None)
        async with database.transaction() as tx:
            places = (await compared(tx, read)).places
            rows = [
                (page[p].key, page[p].source_hash, b"{}", None, page[p].version, None, None)
                if page[p].source_hash is not None
                else (page[p].key, None, None, None, None, None, "means nothing")
                for p in places
            ]
            await copy_into_staging(tx, JOB, rows)
        kept |= {first + place for place in places}
    async with database.transaction() as tx:
        assert await count_keys(tx, JOB, 1) == len({copy.key for copy in copies})
        await mark_contradictions(tx, JOB, WHY)
        await delete_repetitions(tx, JOB)
        rows = await tx.fetch("select external_id, version, source_hash, contradicts, reason from sync_staging")
    found = {key: WHY if contradicts and reason == WHY else (version, value) for key, version, value, contradicts, reason in rows}
    assert len(rows) == len(found)
    assert found == left_of(copies, kept)
