"""The operator's own directory: made once however many start, following the environment, and leaving what others did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.actions.register_default_directory import register_default_directory
from service.domain.change import VersionKind
from service.domain.errors import RollcallError, SourceRefused, SourceUnavailable
from service.domain.member import ConnectionId
from service.settings import load_settings
from service.store.companies import insert_company, list_companies
from service.store.connections import DirectoryRow, find_directory, insert_connection, list_connections
from service.store.database import Database
from service.store.secret_grants import list_secret_grants, revoke_secret
from service.wiring.directories import default_directory, opened_source
from tests.directory_rig import KEY, Upstream

URL = "https://members.example.com"


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    db = await Database.connect(database_url, name="test", size=10)
    yield db
    await db.close()


async def row(db: Database, connection_id: ConnectionId) -> DirectoryRow:
    async with db.transaction() as tx:
        found = await find_directory(tx, connection_id)
    assert found is not None
    return found


async def test_ten_processes_at_once_make_one(db: Database) -> None:
    made = await asyncio.gather(*(register_default_directory(db, URL) for _ in range(10)))
    assert len(set(made)) == 1
    assert not made[0].moved
    async with db.transaction() as tx:
        (company,) = await list_companies(tx)
        (connection,) = await list_connections(tx)
        (grant,) = await list_secret_grants(tx)
    assert (company.name, connection.name, connection.kind) == ("default", "default", "django")
    assert (grant.reference, grant.holders) == ("env:DJANGO_API_KEY", ["connection default"])
    found = await row(db, made[0].connection_id)
    assert (found.directory, found.secret_reference, found.version_kind) == ({"baseUrl": URL}, "env:DJANGO_API_KEY", "none")
    assert found.mapped_fields == ["email", "name", "national_id"]


async def test_it_follows_the_environment_and_keeps_what_was_set_since(db: Database) -> None:
    made = await register_default_directory(db, URL)
    async with db.transaction() as tx:
        await tx.execute('update connections set directory = directory || \'{"path": "/people"}\'')
    moved = await register_default_directory(db, "https://elsewhere.example.com")
    assert (moved.connection_id, moved.moved) == (made.connection_id, True)
    assert (await row(db, made.connection_id)).directory == {"baseUrl": "https://elsewhere.example.com", "path": "/people"}
    assert not (await register_default_directory(db, "https://elsewhere.example.com")).moved


async def test_names_that_mean_something_else_are_left_alone(db: Database) -> None:
    async with db.transaction() as tx:
        company = await insert_company(tx, "default", "Atlantic/Reykjavik", 7)
        await insert_connection(tx, company.id, "default", "stream", VersionKind.SEQUENCE, ["name"])
    with pytest.raises(RollcallError, match="rename it, or unset the variable"):
        await register_default_directory(db, URL)
    async with db.transaction() as tx:
        assert [one.kind for one in await list_connections(tx)] == ["stream"]


async def test_the_company_may_be_renamed_and_nobody_takes_its_place(db: Database) -> None:
    made = await register_default_directory(db, URL)
    async with db.transaction() as tx:
        await tx.execute("update companies set name = 'Choir'")
        await insert_company(tx, "default", "UTC", None)
    again = await register_default_directory(db, URL)
    assert again == made
    async with db.transaction() as tx:
        (connection,) = await list_connections(tx)
    assert connection.company_id == made.company_id


@pytest.fixture
def given(database_url: str, monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> Any:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RABBITMQ_URL", "amqp://127.0.0.1:1/unused")
    monkeypatch.setenv("ALLOW_NETWORKS", "127.0.0.0/8, ::1")

    def load(key: str | None = KEY) -> Any:
        return load_settings(django_base_url=f"{upstream.url}/page-number", django_api_key=key)

    return load


async def test_the_two_variables_are_enough(db: Database, upstream: Upstream, given: Any) -> None:
    upstream.reset(3)
    made = await default_directory(given(), db)
    assert made is not None
    async with opened_source(given(), await row(db, made.connection_id)) as source:
        health = await source.health()
    assert health.well
    assert health.page is not None
    assert len(health.page.records) == 3
    assert upstream.requests()[-1]["authorization"] == f"Bearer {KEY}"


async def test_without_the_key_it_is_said_which_is_missing(db: Database, given: Any) -> None:
    made = await default_directory(given(), db)
    assert made is not None
    with pytest.raises(SourceUnavailable, match="env:DJANGO_API_KEY is not set"):
        async with opened_source(given(" "), await row(db, made.connection_id)):
            pass


async def test_a_key_that_was_revoked_stays_so(db: Database, given: Any) -> None:
    made = await default_directory(given(), db)
    assert made is not None
    async with db.transaction() as tx:
        assert await revoke_secret(tx, made.company_id, "env:DJANGO_API_KEY")
    await default_directory(given(), db)
    with pytest.raises(SourceRefused, match="env:DJANGO_API_KEY was revoked"):
        async with opened_source(given(), await row(db, made.connection_id)):
            pass


async def test_without_the_variable_nothing_is_made(db: Database, database_url: str) -> None:
    settings = load_settings(database_url=database_url, rabbitmq_url="amqp://127.0.0.1:1/unused", django_base_url=None)
    assert await default_directory(settings, db) is None
    async with db.transaction() as tx:
        assert await list_companies(tx) == []
