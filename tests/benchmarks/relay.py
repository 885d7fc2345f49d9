"""How fast one relay drains the outbox, beside raw confirmed publishing and beside faststream-outbox.

Each measurement is a process of its own on uvloop; rounds are interleaved, so that a busy moment of the machine hits all alike.
All publish the same message, persistent, mandatory and confirmed, to one durable quorum queue.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import structlog
import uvloop

from service.entrypoints.loops.relay import Relay
from service.store.database import Database
from tests.benchmarks.rounds import Series, interleaved

ROOT = Path(__file__).resolve().parents[2]
ROWS = 20_000
# A gather of so many keeps a confirming channel busy; more only adds latency.
IN_FLIGHT = 150
EXCHANGE = "rollcall.benchmark"
KEY = "membership.updated.0190a0b0"
TYPE = "MEMBERSHIP_UPDATED"
HEADERS = {
    "ce-specversion": "1.0",
    "ce-type": TYPE,
    "ce-source": "rollcall",
    "ce-id": "0190a0b0-0000-7000-8000-000000000000",
    "ce-time": "2026-11-01T00:00:00.000000Z",
    "ce-subject": "0190a0b0-0000-7000-8000-000000000000",
    "ce-partitionkey": "0190a0b0-0000-7000-8000-000000000000",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
BODY = json.dumps({"memberId": HEADERS["ce-subject"], "changedFields": ["state"], "padding": "x" * 400})


async def measure(
    rounds: int, *, database_url: str, rabbitmq_url: str, rows: int = ROWS, say: Callable[[str], None] = print
) -> dict[str, Series]:
    """Run each contender once a round on an emptied queue and table; the database must be migrated and ours to fill."""

    async def run(name: str) -> float:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.benchmarks.relay",
            name,
            str(rows),
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": database_url, "RABBITMQ_URL": rabbitmq_url},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            message = f"the benchmark {name} failed"
            raise RuntimeError(message)
        return rows / float(output.decode().split()[-1])

    return await interleaved(tuple(CONTENDERS), rounds, run, say)


async def run_raw(database_url: str, rabbitmq_url: str, rows: int) -> float:
    """Seconds for confirmed publishing with aio-pika, without any database."""
    connection = await aio_pika.connect(rabbitmq_url)
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    exchange = await channel.get_exchange(EXCHANGE)
    occurred_at = datetime.now(UTC)
    messages = [
        aio_pika.Message(
            BODY.encode(),
            headers=dict(HEADERS),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=str(uuid4()),
            correlation_id=str(uuid4()),
            timestamp=occurred_at,
            type=TYPE,
        )
        for _ in range(rows)
    ]
    started = time.perf_counter()
    for start in range(0, rows, IN_FLIGHT):
        window = messages[start : start + IN_FLIGHT]
        await asyncio.gather(*(exchange.publish(message, KEY, mandatory=True) for message in window))
    seconds = time.perf_counter() - started
    await connection.close()
    return seconds


async def run_rollcall(database_url: str, rabbitmq_url: str, rows: int) -> float:
    """Seconds from the start of one relay until the outbox is empty."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    connection = await asyncpg.connect(database_url)
    await connection.execute("truncate outbox")
    await connection.execute(
        """insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at)
        select gen_random_uuid(), $2, $3, $4, gen_random_uuid()::text, gen_random_uuid()::text, $5::jsonb, $6, now()
        from generate_series(1, $1)""",
        rows,
        EXCHANGE,
        KEY,
        TYPE,
        json.dumps(HEADERS),
        BODY,
    )
    database = await Database.connect(database_url, name="benchmark", size=6)
    relay = Relay(database, broker_url=rabbitmq_url, listen_url=database_url)
    started = time.perf_counter()
    run = asyncio.create_task(relay.run())
    await _until_empty(connection, "select exists(select from outbox)")
    seconds = time.perf_counter() - started
    relay.stop()
    await run
    await database.close()
    await connection.close()
    return seconds


async def run_faststream_outbox(database_url: str, rabbitmq_url: str, rows: int) -> float:
    """Seconds from the start of its broker until its table is empty; its fastest of 4 to 64 workers and batches of 10 to 1,000."""
    from faststream.rabbit import Channel, RabbitBroker, RabbitExchange
    from faststream_outbox import OutboxBroker, make_outbox_table
    from sqlalchemy import MetaData
    from sqlalchemy.ext.asyncio import create_async_engine

    workers = 64
    table = make_outbox_table(metadata := MetaData(), table_name="benchmark_outbox")
    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://", 1), pool_size=workers + 4)
    async with engine.begin() as transaction:
        await transaction.run_sync(metadata.drop_all)
        await transaction.run_sync(metadata.create_all)
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "insert into benchmark_outbox (queue, payload, headers) select 'relay', $2, $3::jsonb from generate_series(1, $1)",
        rows,
        BODY.encode(),
        json.dumps({**HEADERS, "content-type": "application/json", "correlation_id": str(uuid4())}),
    )
    rabbit = RabbitBroker(
        rabbitmq_url, default_channel=Channel(publisher_confirms=True, on_return_raises=True), logger=None, apply_types=False
    )
    outbox = OutboxBroker(engine, outbox_table=table, logger=None, apply_types=False)
    exchange = RabbitExchange(EXCHANGE, declare=False)

    @outbox.subscriber(
        "relay",
        max_workers=workers,
        fetch_batch_size=1000,
        min_fetch_interval=0.01,
        max_fetch_interval=0.5,
        terminal_flush_batch_size=100,
        decoder=_undecoded,
    )
    async def relay(body: bytes) -> None:
        await rabbit.publish(
            body,
            exchange=exchange,
            routing_key=KEY,
            persist=True,
            mandatory=True,
            headers={**HEADERS},
            content_type="application/json",
            message_id=str(uuid4()),
            correlation_id=str(uuid4()),
            timestamp=datetime.now(UTC),
            message_type=TYPE,
        )

    await rabbit.start()
    started = time.perf_counter()
    await outbox.start()
    await _until_empty(connection, "select exists(select from benchmark_outbox)")
    seconds = time.perf_counter() - started
    await outbox.stop()
    await rabbit.stop()
    await connection.execute("drop table benchmark_outbox")
    await connection.close()
    await engine.dispose()
    return seconds


async def _undecoded(message: Any) -> bytes:
    body: bytes = message.body
    return body


async def _until_empty(connection: Any, query: str) -> None:
    async with asyncio.timeout(300):
        while await connection.fetchval(query):
            await asyncio.sleep(0.01)


Contender = Callable[[str, str, int], Awaitable[float]]
CONTENDERS: dict[str, Contender] = {
    "raw": run_raw,
    "rollcall": run_rollcall,
    "faststream_outbox": run_faststream_outbox,
}


async def _alone(name: str, rows: int) -> None:
    """One contender on an empty queue; every message must have arrived."""
    database_url, rabbitmq_url = os.environ["DATABASE_URL"], os.environ["RABBITMQ_URL"]
    connection = await aio_pika.connect(rabbitmq_url)
    channel = await connection.channel()
    exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
    queue = await channel.declare_queue(EXCHANGE, durable=True, arguments={"x-queue-type": "quorum"})
    await queue.bind(exchange, "#")
    await queue.purge()
    seconds = await CONTENDERS[name](database_url, rabbitmq_url, rows)
    arrived = (await channel.declare_queue(EXCHANGE, passive=True)).declaration_result.message_count
    await queue.delete(if_unused=False, if_empty=False)
    await exchange.delete()
    await connection.close()
    if arrived != rows:
        message = f"{name} delivered {arrived} of {rows} messages"
        raise RuntimeError(message)
    print(seconds)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_alone(sys.argv[1], int(sys.argv[2])))
