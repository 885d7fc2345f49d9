import asyncio
import random
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.relay_rig import INSERT, eventually, inversions, open_sink, running_relay

WRITERS, BATCH = 16, 25


async def _write(database_url: str, exchange: str, keys: list[UUID], events: int, seed: int) -> None:
    """Batches of events as the apply path writes them: rows locked in order, then their next versions into the outbox."""
    choose = random.Random(seed)
    connection = await asyncpg.connect(database_url)
    try:
        for _ in range(events // WRITERS // BATCH):
            batch = sorted(choose.sample(keys, BATCH))
            async with connection.transaction():
                rows = await connection.fetch(
                    "select id, version from subjects where id = any ($1::uuid[]) order by id for update", batch
                )
                await connection.execute("update subjects set version = version + 1 where id = any ($1::uuid[])", batch)
                await connection.fetch(INSERT, [row["id"] for row in rows], exchange, "test", [row["version"] + 1 for row in rows])
                # Commits come in another order than ids.
                await asyncio.sleep(choose.random() * 0.01)
                await connection.execute("select pg_notify('rollcall_outbox', '')")
    finally:
        await connection.close()


@pytest.mark.parametrize("events", [6_000, pytest.param(20_000, marks=pytest.mark.slow)])
async def test_four_relays_and_sixteen_writers_lose_nothing_and_keep_the_order_of_every_key(
    database_url: str, rabbitmq_url: str, events: int
) -> None:
    keys = [uuid4() for _ in range(events // 10)]
    connection = await asyncpg.connect(database_url)
    await connection.execute("create table subjects (id uuid primary key, version bigint not null)")
    await connection.copy_records_to_table("subjects", records=[(key, 0) for key in keys])
    async with open_sink(rabbitmq_url) as sink, AsyncExitStack() as relays:
        writing = asyncio.gather(*(_write(database_url, sink.exchange.name, keys, events, seed) for seed in range(WRITERS)))
        running = []
        # They join while messages flow, so that buckets change hands under load.
        for _ in range(4):
            running.append(await relays.enter_async_context(running_relay(database_url, rabbitmq_url)))
            await asyncio.sleep(0.3)
        await eventually(lambda: [len(relay.buckets) for relay in running] == [16] * 4, within=20)
        await writing
        got = await sink.receive(events, within=50)
        final = {str(row["id"]): row["version"] for row in await connection.fetch("select id, version from subjects")}
        await eventually(lambda: _is_drained(connection))
    await connection.close()

    assert inversions(got) == 0
    assert len(got) == events
    assert {(key, version) for key, last in final.items() for version in range(1, last + 1)} == set(got)


async def _is_drained(connection: asyncpg.Connection) -> bool:
    return not await connection.fetchval("select exists(select from outbox)")
