import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from service.domain.errors import Unavailable
from service.store.wakeups import listening
from tests.relay_rig import eventually


@pytest.fixture
async def connection(database_url: str) -> Any:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_notifications_arrive_with_their_payload(database_url: str, connection: Any) -> None:
    got: list[str] = []
    async with listening(database_url, "channel", got.append, name="test-listen"):
        await connection.execute("select pg_notify('channel', 'a'), pg_notify('other', 'b')")
        await eventually(lambda: got == ["a"])


async def test_a_connection_that_the_server_ends_is_noticed(database_url: str, connection: Any) -> None:
    async with listening(database_url, "channel", lambda _: None, name="test-listen") as stay:
        staying = asyncio.create_task(stay(timedelta(seconds=60)))
        await asyncio.sleep(0.05)
        await connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'test-listen'")
        async with asyncio.timeout(2):
            with pytest.raises(Unavailable):
                await staying


async def test_a_living_connection_survives_its_pings(database_url: str, connection: Any) -> None:
    got: list[str] = []
    async with listening(database_url, "channel", got.append, name="test-listen") as stay:
        staying = asyncio.create_task(stay(timedelta(seconds=0.02)))
        await asyncio.sleep(0.2)
        await connection.execute("select pg_notify('channel', 'a')")
        await eventually(lambda: got == ["a"])
        assert not staying.done()
        staying.cancel()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        async with listening("postgresql://postgres@127.0.0.1:1/x", "channel", lambda _: None, name="test-listen"):
            pass
