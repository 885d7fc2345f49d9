"""How long an event takes from its commit to its subscriber, through one relay that has little to do."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import asyncpg

from tests.relay_rig import Sink, inversions, open_sink
from tests.service_rig import running_service

__all__ = ["Latency", "measure"]

EVENTS = 2_000
RATE = 200
KEYS = 50
TYPE = "MEMBERSHIP_UPDATED"
# The columns of a row that tells of a member's version, and the word that wakes the relay, as one statement.
INSERT: Final = """
with inserted as (
    insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at)
    values ($1, $2, 'benchmark', $3, $4, 'benchmark', '{}', $5, now())
)
select pg_notify('rollcall_outbox', '')"""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from just before an event's commit until its subscriber has it, and what became of order."""

    events: int
    per_second: float
    p50: float
    p99: float
    most: float
    out_of_order: int


class _Events:
    """Events of a few members, each committed by itself, and when each came."""

    def __init__(self, connection: Any, sink: Sink) -> None:
        self._connection = connection
        self._sink = sink
        self._keys = [uuid4() for _ in range(KEYS)]
        self._written = 0
        self._committed: dict[str, float] = {}
        self.milliseconds: list[float] = []

    async def commit(self) -> None:
        key, message_id = self._keys[self._written % KEYS], str(uuid4())
        body = json.dumps({"key": str(key), "version": self._written // KEYS + 1, "padding": "x" * 400})
        async with self._connection.transaction():
            await self._connection.execute(INSERT, key, self._sink.exchange.name, TYPE, message_id, body)
            self._committed[message_id] = time.perf_counter()
        self._written += 1

    async def take(self, message: Any) -> None:
        self.milliseconds.append((time.perf_counter() - self._committed[message.message_id]) * 1000)
        self._sink.messages.append(message)
        await message.ack()

    async def until_came(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.milliseconds) < count:
                await asyncio.sleep(0.01)


async def measure(*, database_url: str, rabbitmq_url: str, events: int = EVENTS) -> Latency:
    """Commit 200 events a second, one at a time, and await them; the database must be migrated and its outbox empty."""
    connection = await asyncpg.connect(database_url)
    try:
        async with open_sink(rabbitmq_url, consume=False) as sink, running_service(database_url, rabbitmq_url, "relay"):
            stream = _Events(connection, sink)
            consumer = await sink.queue.consume(stream.take)
            # The relay starts, connects and takes its buckets; what it does then first it does for the first time.
            for _ in range(KEYS):
                await stream.commit()
            await stream.until_came(KEYS)
            await asyncio.sleep(0.5)
            stream.milliseconds.clear()
            started = time.perf_counter()
            for number in range(events):
                await asyncio.sleep(max(0.0, started + number / RATE - time.perf_counter()))
                await stream.commit()
            seconds = time.perf_counter() - started
            await stream.until_came(events)
            await sink.queue.cancel(consumer)
    finally:
        await connection.close()
    percentiles = statistics.quantiles(stream.milliseconds, n=100, method="inclusive")
    return Latency(
        events=events,
        per_second=events / seconds,
        p50=percentiles[49],
        p99=percentiles[98],
        most=max(stream.milliseconds),
        out_of_order=inversions(sink.got),
    )
