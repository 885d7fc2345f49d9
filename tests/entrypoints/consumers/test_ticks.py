"""Ticks on a real broker: whoever publishes them, each slot begins once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aio_pika
import pytest

from contracts.channels import COMMANDS, SCHEDULE_TICK, TICKS, schedule_tick_routing_key
from contracts.envelope import Envelope
from service.clients.inbound import InboundPublisher
from service.entrypoints.loops.ticker import Ticker
from tests.clock_rig import Clock, open_clock
from tests.fault_proxy import FaultProxy
from tests.jobs_rig import running_workers
from tests.relay_rig import eventually
from tests.service_rig import clean_broker, depth


@pytest.fixture
async def clock(database_url: str) -> AsyncIterator[Clock]:
    async with open_clock(database_url) as clock:
        yield clock


@pytest.fixture
async def channel(rabbitmq_url: str) -> AsyncIterator[Any]:
    async with clean_broker(rabbitmq_url) as channel:
        yield channel


async def scheduled(clock: Clock, count: int) -> None:
    await clock.fetch(
        "insert into schedules (company_id, kind, subject_id, interval_ms, next_run_at) "
        "select $1, 'directory_sync', gen_random_uuid(), 3600000, now() from generate_series(1, $2)",
        clock.company,
        count,
    )
    # What is synced is a directory.
    await clock.fetch(
        "insert into connections (id, company_id, name, kind, version_kind, mapped_fields, directory) "
        "select subject_id, $1, subject_id::text, 'django', 'none', array['name'], '{}' from schedules where company_id = $1",
        clock.company,
    )


async def publish_tick(publisher: InboundPublisher, body: dict[str, Any] | bytes) -> None:
    envelope = Envelope(id=str(uuid4()), source="tests", type=SCHEDULE_TICK.message_type, correlation_id="the-tick")
    await publisher.publish(SCHEDULE_TICK, envelope, body if isinstance(body, bytes) else json.dumps(body).encode())


async def synced(clock: Clock) -> int:
    ((count,),) = await clock.fetch("select count(*) from jobs where kind = 'directory_sync'")
    return int(count)


@pytest.mark.usefixtures("channel")
async def test_a_hundred_ticks_to_three_workers_begin_each_slot_once(clock: Clock, database_url: str, rabbitmq_url: str) -> None:
    await scheduled(clock, 20)
    async with running_workers(database_url, rabbitmq_url, 3), InboundPublisher.connected(rabbitmq_url) as publisher:
        now = datetime.now(UTC)
        # The clocks of those who tick are half a minute apart, and one of them tells no time at all.
        bodies: list[dict[str, Any]] = [{"scheduledFor": (now + timedelta(seconds=n)).isoformat()} for n in (-30, 0, 30)]
        bodies.append({"sync_type": "scheduled"})
        await asyncio.gather(*(publish_tick(publisher, bodies[n % 4]) for n in range(100)))

        async def all_taken() -> bool:
            return await depth(await fresh(rabbitmq_url), TICKS.main.name) == 0 and await synced(clock) == 20

        await eventually(all_taken)

    slots = await clock.fetch("select schedule_id, slot, count(*) as n from jobs where kind = 'directory_sync' group by 1, 2")
    assert [row["n"] for row in slots] == [1] * 20
    correlation = await clock.fetch("select distinct correlation_id from jobs where kind = 'directory_sync'")
    assert [row["correlation_id"] for row in correlation] == ["the-tick"]


async def test_what_is_no_tick_is_parked_and_the_next_one_counts(
    clock: Clock, channel: Any, database_url: str, rabbitmq_url: str
) -> None:
    await scheduled(clock, 1)
    async with running_workers(database_url, rabbitmq_url), InboundPublisher.connected(rabbitmq_url) as publisher:
        for body in (b"{}", b'{"sync_type": "full"}', b"no json"):
            await publish_tick(publisher, body)

        async def three_parked() -> bool:
            return await depth(channel, TICKS.parked.name) == 3

        await eventually(three_parked)
        assert await synced(clock) == 0
        await publish_tick(publisher, {"sync_type": "scheduled"})

        async def begun() -> bool:
            return await synced(clock) == 1

        await eventually(begun)


@pytest.mark.usefixtures("channel")
async def test_two_tickers_tick_and_say_when_the_broker_does_not_take_it(rabbitmq_url: str) -> None:
    connection = await aio_pika.connect(rabbitmq_url)
    async with connection:
        channel = await connection.channel()
        taken: list[Any] = []
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(COMMANDS.name, schedule_tick_routing_key())
        await queue.consume(taken.append, no_ack=True)
        tickers = [Ticker(rabbitmq_url, every=timedelta(milliseconds=20)) for _ in range(2)]
        assert not any(ticker.ready for ticker in tickers)
        running = [asyncio.create_task(ticker.run()) for ticker in tickers]

        async def enough() -> bool:
            return len(taken) > 10 and all(ticker.ready for ticker in tickers)

        await eventually(enough)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    body = json.loads(taken[0].body)
    assert body["origin"] == "ticker"
    assert taken[0].type == taken[0].headers["ce-type"] == "SCHEDULE_TICK"
    assert len({message.message_id for message in taken}) == len(taken)


@pytest.mark.usefixtures("channel")
async def test_a_ticker_outlives_a_broker_that_goes_and_comes(rabbitmq_url: str) -> None:
    async with FaultProxy.before(rabbitmq_url, refusing=True) as proxy:
        ticker = Ticker(proxy.url, every=timedelta(milliseconds=20))
        running = asyncio.create_task(ticker.run())
        try:
            for _ in range(2):
                proxy.refusing = False
                await eventually(lambda: ticker.ready)
                proxy.refusing = True
                proxy.cut()
                await eventually(lambda: not ticker.ready)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def fresh(url: str) -> Any:
    """A channel that no failed look has closed."""
    connection = await aio_pika.connect(url)
    return await connection.channel()
