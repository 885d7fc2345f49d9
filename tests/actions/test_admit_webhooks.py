"""How many webhooks a source may send: one bucket for several edges, and none of them stops when the database is away."""

from __future__ import annotations

import asyncio
from functools import partial
from uuid import uuid4

from service.actions.admit_webhooks import SourceLimits, draw_tokens
from service.domain.errors import Unavailable
from service.domain.member import ConnectionId
from service.store.database import Database
from service.store.rate_limits import take_tokens


async def test_several_edges_share_one_bucket(database_url: str) -> None:
    db = await Database.connect(database_url, name="test", size=4)
    try:
        connection = ConnectionId(uuid4())
        edges = [SourceLimits(partial(draw_tokens, db)) for _ in range(3)]
        admitted = await asyncio.gather(*(edges[number % 3].admit(connection, 20) for number in range(300)))
        # Two seconds' worth at once, and what grows while they are drawn.
        assert 40 <= sum(admitted) <= 60
        assert await edges[0].admit(ConnectionId(uuid4()), 20)
    finally:
        await db.close()


async def test_a_bucket_refills_up_to_its_burst_on_the_databases_clock(database_url: str) -> None:
    db = await Database.connect(database_url, name="test", size=1)

    async def take(most: int) -> int:
        async with db.transaction() as tx:
            return await take_tokens(tx, "test", most, per_second=1, burst=20)

    try:
        assert [await take(15), await take(15), await take(15)] == [15, 5, 0]
        async with db.transaction() as tx:
            await tx.execute("update rate_limits set refilled_at = refilled_at - interval '10 seconds'")
        assert await take(15) in (10, 11)
        async with db.transaction() as tx:
            await tx.execute("update rate_limits set refilled_at = refilled_at - interval '1 day'")
        assert await take(100) == 20
        async with db.transaction() as tx:
            # A clock that was set back gives nothing and takes nothing.
            await tx.execute("update rate_limits set refilled_at = refilled_at + interval '1 day'")
        assert await take(1) == 0
    finally:
        await db.close()


async def test_more_waiters_than_a_portion_has_are_all_admitted_while_there_are_tokens() -> None:
    async def draw(_: ConnectionId, most: int, __: int) -> int:
        await asyncio.sleep(0)
        return most

    limits, connection = SourceLimits(draw), ConnectionId(uuid4())
    assert all(await asyncio.gather(*(limits.admit(connection, 10) for _ in range(15))))


async def test_while_the_database_is_away_the_rate_is_admitted_all_the_same() -> None:
    calls = 0

    async def draw(*_: object) -> int:
        nonlocal calls
        calls += 1
        raise Unavailable("away")

    limits, connection = SourceLimits(draw), ConnectionId(uuid4())
    loop = asyncio.get_running_loop()
    begun, admitted = loop.time(), 0
    while loop.time() - begun < 0.55:
        admitted += await limits.admit(connection, 100)
        await asyncio.sleep(0.001)
    assert 40 <= admitted <= 70
    assert calls == 1
