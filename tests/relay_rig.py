"""What the relay's tests stand on: rows put into a real outbox, messages taken from a real queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID, uuid4

import aio_pika
import asyncpg

from service.domain.outbox import ClaimedMessage
from service.entrypoints.loops.relay import Relay, RelayOptions
from service.store.database import Database

INSERT = """
insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at)
select key, $2, $3, 'TEST', gen_random_uuid()::text, 'correlation', '{"ce-type": "TEST", "traceparent": "00-1-2-01"}',
    json_build_object('key', key, 'version', version)::text, now()
from unnest($1::uuid[], $4::bigint[]) with ordinality as m (key, version, position) order by position
returning id
"""


class Outbox:
    """A connection that writes rows as a member's change would."""

    def __init__(self, connection: Any, exchange: str) -> None:
        self.connection = connection
        self.exchange = exchange

    async def insert(
        self, *messages: tuple[UUID, int], exchange: str | None = None, routing_key: str = "test", notify: bool = True
    ) -> list[int]:
        """One row for each (key, version)."""
        keys = [key for key, _ in messages]
        versions = [version for _, version in messages]
        rows = await self.connection.fetch(INSERT, keys, self.exchange if exchange is None else exchange, routing_key, versions)
        if notify:
            await self.connection.execute("select pg_notify('rollcall_outbox', '')")
        return [row["id"] for row in rows]

    async def rows(self) -> list[Any]:
        return list(await self.connection.fetch("select * from outbox order by id"))

    async def count(self) -> int:
        return int(await self.connection.fetchval("select count(*) from outbox"))


class Sink:
    """An exchange with one durable quorum queue behind it, and all that came out of the queue."""

    def __init__(self, channel: Any, exchange: Any, queue: Any) -> None:
        self.channel, self.exchange, self.queue = channel, exchange, queue
        self.messages: list[Any] = []
        self._more = asyncio.Event()

    @classmethod
    async def declare(cls, url: str, name: str, *, arguments: dict[str, Any] | None = None, bind: bool = True) -> tuple[Any, Self]:
        connection = await aio_pika.connect(url)
        channel = await connection.channel()
        await channel.set_qos(2000)
        exchange = await channel.declare_exchange(name, "topic", durable=True)
        queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum", **(arguments or {})})
        if bind:
            await queue.bind(exchange, "#")
        return connection, cls(channel, exchange, queue)

    async def consume(self) -> None:
        async def take(message: Any) -> None:
            self.messages.append(message)
            self._more.set()
            await message.ack()

        await self.queue.consume(take)

    @property
    def got(self) -> list[tuple[str, int]]:
        """(key, version) in the order of arrival."""
        return [(body["key"], body["version"]) for body in (json.loads(message.body) for message in self.messages)]

    async def receive(self, count: int, *, within: float = 30) -> list[tuple[str, int]]:
        async with asyncio.timeout(within):
            while len(self.messages) < count:
                self._more.clear()
                await self._more.wait()
        return self.got


@asynccontextmanager
async def open_outbox(database_url: str, exchange: str) -> AsyncIterator[Outbox]:
    connection = await asyncpg.connect(database_url)
    try:
        yield Outbox(connection, exchange)
    finally:
        await connection.close()


@asynccontextmanager
async def open_sink(url: str, name: str | None = None, *, consume: bool = True, **options: Any) -> AsyncIterator[Sink]:
    connection, sink = await Sink.declare(url, name or f"relay-{uuid4().hex[:12]}", **options)
    try:
        if consume:
            await sink.consume()
        yield sink
        await sink.queue.delete(if_unused=False, if_empty=False)
        await sink.exchange.delete()
    finally:
        await connection.close()


@asynccontextmanager
async def open_database(url: str, size: int = 6) -> AsyncIterator[Database]:
    database = await Database.connect(url, name="test", size=size)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def running_relay(
    database_url: str, rabbitmq_url: str, *, listen_url: str | None = None, **options: Any
) -> AsyncIterator[Relay]:
    """A relay at work; it is stopped gracefully, and what it raised is raised."""
    async with open_database(database_url) as database:
        relay = Relay(database, broker_url=rabbitmq_url, listen_url=listen_url or database_url, options=RelayOptions(**options))
        run = asyncio.create_task(relay.run())
        try:
            yield relay
        finally:
            relay.stop()
            await run


async def eventually(condition: Callable[[], Awaitable[bool]] | Callable[[], bool], *, within: float = 30) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(within):
        while True:
            result = condition()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.01)


def inversions(got: Sequence[tuple[str, int]]) -> int:
    """How many messages came after a later version of their key."""
    latest: dict[str, int] = {}
    count = 0
    for key, version in got:
        count += version < latest.get(key, 0)
        latest[key] = max(version, latest.get(key, 0))
    return count


def without_repeats(got: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """What is left when each consumer drops versions that it has seen."""
    latest: dict[str, int] = {}
    kept = []
    for key, version in got:
        if version > latest.get(key, 0):
            latest[key] = version
            kept.append((key, version))
    return kept


def message(exchange: str, *, routing_key: str = "test", body: str = "{}", **changes: Any) -> ClaimedMessage:
    """A claimed message that was never in an outbox."""
    values: dict[str, Any] = {
        "id": 1,
        "order_key": uuid4(),
        "attempts": 0,
        "exchange": exchange,
        "routing_key": routing_key,
        "type": "TEST",
        "message_id": str(uuid4()),
        "correlation_id": "correlation",
        "headers": {"ce-type": "TEST"},
        "body": body,
        "occurred_at": datetime.now(UTC),
    }
    return ClaimedMessage(**(values | changes))
