"""`rollcall migrate`: one set of migrations, whoever and how many run it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator

import asyncpg
import pytest

from deploy.local_stack import create_database, drop_database
from service.domain.errors import Unavailable
from service.store.database import Database
from service.store.migrate import MigrationError, migrate, migrations, pending_migrations


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    url = create_database(postgres_url)
    try:
        yield url
    finally:
        drop_database(url)


async def _applied(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [row["version"] for row in await connection.fetch("select version from schema_migrations order by version")]
    finally:
        await connection.close()


async def test_ten_at_once_apply_one_set(empty_database_url: str) -> None:
    # Whoever migrates needs no broker, and need not have its password.
    environment = {**os.environ, "DATABASE_URL": empty_database_url, "RABBITMQ_URL": ""}
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "service",
            "migrate",
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        for _ in range(10)
    ]
    ended = [(await process.communicate())[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 10, ended
    assert await _applied(empty_database_url) == list(migrations())


async def test_a_second_run_applies_nothing(empty_database_url: str) -> None:
    assert await migrate(empty_database_url) == [path.stem for path in migrations().values()]
    assert await migrate(empty_database_url) == []


async def test_what_is_pending_is_named(empty_database_url: str) -> None:
    db = await Database.connect(empty_database_url, name="test", size=1)
    try:
        async with db.transaction() as tx:
            assert await pending_migrations(tx) == [path.stem for path in migrations().values()]
        await migrate(empty_database_url)
        async with db.transaction() as tx:
            assert await pending_migrations(tx) == []
    finally:
        await db.close()


async def test_a_failing_migration_leaves_nothing_and_its_error_no_password(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("create table members (id integer)")
    with pytest.raises(MigrationError, match="dbmate failed") as raised:
        await migrate(empty_database_url)
    password = empty_database_url.partition("//")[2].rpartition("@")[0].partition(":")[2]
    assert not password or password not in str(raised.value)
    assert await connection.fetchval("select to_regclass('companies')") is None
    await connection.close()


async def test_a_server_that_is_not_there_is_said_to_be_away() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await migrate("postgresql://rollcall:secret@127.0.0.1:1/rollcall")


def test_the_versions_are_consecutive() -> None:
    assert list(migrations()) == [f"{number:04}" for number in range(1, len(migrations()) + 1)]
