"""What Rollcall's relay is compared to in `latency`: `python -m tests.benchmarks.latency_contenders NAME EXCHANGE`."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import datetime
from typing import Any

import aio_pika
import asyncpg
import uvloop
from faststream.rabbit import Channel, RabbitBroker, RabbitExchange
from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import create_async_engine

TYPE = "MEMBERSHIP_UPDATED"
WORKERS = 8


async def run_bare(database_url: str, rabbitmq_url: str, _exchange: str) -> None:
    """Woken by the commit: read, publish with confirms, delete. No order under failure, no leases, no retries, nobody beside it."""
    woken = asyncio.Event()
    listening, database = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    await listening.add_listener("rollcall_outbox", lambda *_: woken.set())
    connection = await aio_pika.connect(rabbitmq_url)
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    exchanges: dict[str, Any] = {}
    print("ready", flush=True)
    while True:
        rows = await database.fetch("select * from outbox order by id limit 100")
        if not rows:
            await woken.wait()
            woken.clear()
            continue
        for name in {row["exchange"] for row in rows} - exchanges.keys():
            exchanges[name] = await channel.get_exchange(name)
        await asyncio.gather(*(_publish(exchanges[row["exchange"]], row) for row in rows))
        await database.execute("delete from outbox where id = any($1)", [row["id"] for row in rows])


async def _publish(exchange: Any, row: Any) -> None:
    message = aio_pika.Message(
        row["body"].encode(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=row["message_id"],
        timestamp=row["occurred_at"],
        type=row["type"],
    )
    await exchange.publish(message, row["routing_key"], mandatory=True)


async def run_faststream_outbox(database_url: str, rabbitmq_url: str, exchange_name: str) -> None:
    """Its subscriber, woken by its own notification, and FastStream's publisher with confirms."""
    table = make_outbox_table(metadata := MetaData(), table_name="latency_outbox")
    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://", 1), pool_size=WORKERS + 4)
    async with engine.begin() as transaction:
        await transaction.run_sync(metadata.drop_all)
        await transaction.run_sync(metadata.create_all)
    rabbit = RabbitBroker(
        rabbitmq_url, default_channel=Channel(publisher_confirms=True, on_return_raises=True), logger=None, apply_types=False
    )
    outbox = OutboxBroker(engine, outbox_table=table, logger=None, apply_types=False)
    exchange = RabbitExchange(exchange_name, declare=False)

    @outbox.subscriber(
        "relay", max_workers=WORKERS, fetch_batch_size=100, min_fetch_interval=0.01, max_fetch_interval=0.5, decoder=_undecoded
    )
    async def relay(body: bytes) -> None:
        await rabbit.publish(
            body,
            exchange=exchange,
            routing_key=TYPE,
            persist=True,
            mandatory=True,
            content_type="application/json",
            timestamp=datetime.now().astimezone(),
            message_type=TYPE,
        )

    await rabbit.start()
    await outbox.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


async def _undecoded(message: Any) -> bytes:
    body: bytes = message.body
    return body


if __name__ == "__main__":
    contender = {"bare": run_bare, "faststream_outbox": run_faststream_outbox}[sys.argv[1]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(contender(os.environ["DATABASE_URL"], os.environ["RABBITMQ_URL"], sys.argv[2]))
