"""A worker that starts makes the default directory, and goes on without it where it cannot be made."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog

from service.domain.change import VersionKind
from service.settings import Settings, load_settings
from service.store.companies import insert_company
from service.store.connections import ConnectionRow, insert_connection, list_connections
from service.store.database import Database
from service.wiring.worker import Worker


@pytest.fixture
def settings(database_url: str, rabbitmq_url: str, tmp_path: Path) -> Settings:
    return load_settings(
        database_url=database_url, rabbitmq_url=rabbitmq_url, secrets_dir=tmp_path, django_base_url="https://members.example.com"
    )


async def connections(url: str) -> list[ConnectionRow]:
    db = await Database.connect(url, name="test", size=1)
    try:
        async with db.transaction() as tx:
            return await list_connections(tx)
    finally:
        await db.close()


async def opened(worker: Worker) -> None:
    try:
        await worker.open()
    finally:
        await worker.close()


async def test_workers_that_start_together_make_the_default_connection_once(settings: Settings, database_url: str) -> None:
    await asyncio.gather(*(opened(Worker(settings)) for _ in range(3)))
    assert [(one.name, one.kind) for one in await connections(database_url)] == [("default", "django")]


async def test_a_worker_whose_default_names_are_taken_says_so_and_goes_on(settings: Settings, database_url: str) -> None:
    db = await Database.connect(database_url, name="test", size=1)
    async with db.transaction() as tx:
        company = await insert_company(tx, "default", "UTC", None)
        await insert_connection(tx, company.id, "default", "stream", VersionKind.SEQUENCE, ["name"])
    await db.close()
    with structlog.testing.capture_logs() as logs:
        await opened(Worker(settings))
    (said,) = [line for line in logs if line["event"] == "there is no default directory"]
    assert "rename it, or unset the variable" in said["reason"]
    assert [one.kind for one in await connections(database_url)] == ["stream"]
