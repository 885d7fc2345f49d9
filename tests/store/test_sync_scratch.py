"""What a sync leaves behind is thrown away as files, and never what another one needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.domain.jobs import JobId
from service.store import sync_scratch
from service.store.database import Database
from service.store.sync_scratch import empty_scratch

MINE, OTHER = JobId(UUID(int=1)), JobId(UUID(int=2))
FILL = """
insert into sync_staging (job_id, external_id, source_hash, content)
select $1, n::text, '\\x00', '\\x7b7d' from generate_series(1, 200) n
"""


@pytest.fixture
async def database(module_database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(sync_scratch, "_LARGE_BYTES", 8192)
    database = await Database.connect(module_database_url, name="tests", size=4)
    async with database.transaction() as tx:
        await tx.execute("truncate sync_pages, sync_staging, sync_delta")
        await tx.execute(FILL, MINE)
    yield database
    await database.close()


async def emptied(database: Database) -> bool:
    async with database.transaction() as tx:
        done = await empty_scratch(tx, MINE)
        # Whatever came of it, the transaction goes on.
        await tx.execute("select")
    return done


async def staged(database: Database) -> dict[UUID, int]:
    async with database.transaction() as tx:
        rows = await tx.fetch("select job_id, count(*) as rows from sync_staging group by job_id")
    return {row["job_id"]: row["rows"] for row in rows}


async def test_a_sync_that_runs_alone_throws_its_files_away(database: Database) -> None:
    assert await emptied(database)
    assert await staged(database) == {}
    async with database.transaction() as tx:
        assert await tx.fetchval("select pg_relation_size('sync_staging')") == 0


async def test_what_was_read_page_by_page_goes_too_and_is_never_anothers(database: Database) -> None:
    page = "insert into sync_pages (job_id, reading, records, keys) values ($1, 1, 1, 'a')"
    async with database.transaction() as tx:
        await tx.execute(page, MINE)
    assert await emptied(database)
    async with database.transaction() as tx:
        assert await tx.fetchval("select count(*) from sync_pages") == 0
        await tx.execute(FILL, MINE)
        await tx.execute(page, OTHER)
    assert not await emptied(database)
    async with database.transaction() as tx:
        assert await tx.fetchval("select job_id from sync_pages") == OTHER


async def test_beside_another_sync_nothing_is_thrown_away_and_the_lock_is_given_back(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("insert into sync_delta (job_id, place, what, was_live) values ($1, 1, 'absent', true)", OTHER)
    async with database.transaction() as tx:
        assert not await empty_scratch(tx, MINE)
        async with database.transaction() as beside:
            await beside.execute(FILL, OTHER)
    assert await staged(database) == {MINE: 200, OTHER: 200}


async def test_nobody_is_waited_for(database: Database, module_database_url: str) -> None:
    copying: Any = await asyncpg.connect(module_database_url)
    try:
        async with copying.transaction():
            await copying.execute(FILL, OTHER)
            assert not await emptied(database)
    finally:
        await copying.close()
    assert await staged(database) == {MINE: 200, OTHER: 200}


async def test_of_little_the_rows_are_left_to_be_deleted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_scratch, "_LARGE_BYTES", 1024 * 1024)
    assert not await emptied(database)
    assert await staged(database) == {MINE: 200}
