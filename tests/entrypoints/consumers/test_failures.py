"""The failure path on a real broker: retries, what a parked message keeps, and a message that kills the process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import pytest
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage, RabbitQueue, RabbitRouter

from contracts.channels import MEMBER_CHANGES, RETRY_DELAY_MS, QueueFamily, queue_family
from service.actions.journal_attempts import AttemptJournal
from service.clients.inbound import InboundPublisher
from service.domain.errors import Park, Unforeseen
from service.entrypoints.consumers.failures import LoneHandling, ParkOrRetry
from service.entrypoints.consumers.isolation import Isolation
from service.store.database import Database
from tests.service_rig import Upstream, books, clean_broker, depth, publish

Handler = Callable[[RabbitMessage], Awaitable[None]]


class Rig:
    """A family of queues of the test's own, and a way to look at them."""

    def __init__(self, channel: Any, family: QueueFamily) -> None:
        self.channel, self.family = channel, family

    async def send(self, body: bytes = b"{}", **message: Any) -> None:
        await self.channel.default_exchange.publish(aio_pika.Message(body, **message), self.family.main.name)

    async def parked(self, *, within: float = 20) -> Any:
        queue = await self.channel.get_queue(self.family.parked.name)
        async with asyncio.timeout(within):
            while (message := await queue.get(fail=False)) is None:
                await asyncio.sleep(0.02)
        await message.ack()
        return message


@asynccontextmanager
async def declared(rabbitmq_url: str, *, retry_delay_ms: int = 100) -> AsyncIterator[Rig]:
    family = queue_family(f"failures-{uuid4().hex[:8]}", retry_delay_ms=retry_delay_ms)
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        for queue in family.queues:
            await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
        yield Rig(channel, family)
        for queue in family.queues:
            await channel.queue_delete(queue.name)


@asynccontextmanager
async def consuming(rabbitmq_url: str, family: QueueFamily, db: Database, handler: Handler) -> AsyncIterator[RabbitBroker]:
    broker = RabbitBroker(
        rabbitmq_url, default_channel=Channel(on_return_raises=True), logger=None, apply_types=False, graceful_timeout=2
    )
    lone_handling = LoneHandling(AttemptJournal(lambda: db), Isolation())
    router = RabbitRouter(middlewares=[ParkOrRetry.of(broker, family, lone_handling)])

    async def decode(message: RabbitMessage) -> RabbitMessage:
        return message

    router.subscriber(
        RabbitQueue(family.main.name, declare=False, durable=True), channel=Channel(prefetch_count=100), decoder=decode
    )(handler)
    broker.include_router(router)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url, name="test", size=2)
    yield database
    await database.close()


async def test_a_transient_failure_is_retried_ten_times_and_parked_with_its_first_error(db: Database, rabbitmq_url: str) -> None:
    tries: list[float] = []

    async def fail(_: RabbitMessage) -> None:
        tries.append(time.monotonic())
        message = f"the store is odd, try {len(tries)}"
        raise Unforeseen(message)

    before = datetime.now(UTC)
    async with declared(rabbitmq_url) as rig, consuming(rabbitmq_url, rig.family, db, fail):
        await rig.send(b'{"a": 1}', headers={"ce-id": "7", "colour": "green", "CC": ["x"]}, message_id="7", correlation_id="run 7")
        parked = await rig.parked()
        for queue in (rig.family.main, rig.family.retry):
            assert await depth(rig.channel, queue.name) == 0
    assert len(tries) == 11
    assert all(later - earlier >= 0.09 for earlier, later in pairwise(tries))
    headers = parked.headers
    assert (parked.body, parked.message_id, parked.correlation_id) == (b'{"a": 1}', "7", "run 7")
    assert (headers["ce-id"], headers["colour"]) == ("7", "green")
    assert headers["x-rollcall-first-error"] == "the store is odd, try 1"
    assert headers["x-rollcall-reason"] == "failed 11 times, last: the store is odd, try 11"
    assert headers["x-rollcall-attempts"] == 11
    assert headers["x-rollcall-queue"] == rig.family.main.name
    first, last = (datetime.fromisoformat(headers[f"x-rollcall-{name}"]) for name in ("first-failed-at", "parked-at"))
    assert before <= first < last
    assert (last - first).total_seconds() >= 0.9
    assert not {"x-death", "CC"} & set(headers)


async def _fill(channel: Any, queue: str) -> None:
    """Publish until the queue says that it is full."""
    with suppress(aio_pika.exceptions.DeliveryError):
        while True:
            await channel.default_exchange.publish(aio_pika.Message(b"filler"), queue)


@pytest.mark.slow
async def test_the_declared_delay_is_half_a_minute(db: Database, rabbitmq_url: str) -> None:
    tries: list[float] = []

    async def fail_once(_: RabbitMessage) -> None:
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise ZeroDivisionError

    async with (
        declared(rabbitmq_url, retry_delay_ms=RETRY_DELAY_MS) as rig,
        consuming(rabbitmq_url, rig.family, db, fail_once),
    ):
        await rig.send()
        async with asyncio.timeout(60):
            while len(tries) < 2:
                await asyncio.sleep(0.1)
    assert 30 <= tries[1] - tries[0] < 35


async def test_a_copy_that_is_not_confirmed_holds_its_message(db: Database, rabbitmq_url: str) -> None:
    async def fail(_: RabbitMessage) -> None:
        raise Park("no")

    async with declared(rabbitmq_url) as rig:
        await rig.channel.queue_delete(rig.family.parked.name)
        full = {**rig.family.parked.arguments, "x-max-length": 1}
        parked = await rig.channel.declare_queue(rig.family.parked.name, durable=True, arguments=full)
        async with asyncio.timeout(10):
            await _fill(rig.channel, parked.name)
        async with consuming(rabbitmq_url, rig.family, db, fail):
            await rig.send(message_id="7")
            await asyncio.sleep(2)
            held = await rig.channel.declare_queue(rig.family.main.name, passive=True)
            assert held.declaration_result.message_count == 0
            await parked.purge()
            assert (await rig.parked()).message_id == "7"


async def test_a_failure_that_passes_leaves_nothing_behind(db: Database, rabbitmq_url: str) -> None:
    done = asyncio.Event()
    tries = 0

    async def fail_twice(_: RabbitMessage) -> None:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise ZeroDivisionError
        done.set()

    async with declared(rabbitmq_url) as rig:
        async with consuming(rabbitmq_url, rig.family, db, fail_twice):
            await rig.send()
            await asyncio.wait_for(done.wait(), 10)
        assert [await depth(rig.channel, queue.name) for queue in rig.family.queues] == [0, 0, 0]


async def test_what_is_parked_at_last_tells_of_the_error_that_came_first(db: Database, rabbitmq_url: str) -> None:
    errors: list[Exception] = [ZeroDivisionError("ada@example.org"), Park("nobody can")]

    async def fail(_: RabbitMessage) -> None:
        raise errors.pop(0)

    async with declared(rabbitmq_url) as rig, consuming(rabbitmq_url, rig.family, db, fail):
        await rig.send()
        headers = (await rig.parked()).headers
    assert (headers["x-rollcall-reason"], headers["x-rollcall-first-error"]) == ("nobody can", "ZeroDivisionError")
    assert headers["x-rollcall-attempts"] == 2


async def test_a_message_whose_retry_queue_is_gone_is_parked_by_the_broker(db: Database, rabbitmq_url: str) -> None:
    async def fail(_: RabbitMessage) -> None:
        raise ZeroDivisionError

    async with declared(rabbitmq_url) as rig, consuming(rabbitmq_url, rig.family, db, fail):
        await rig.channel.queue_delete(rig.family.retry.name)
        await rig.send(message_id="7")
        parked = await rig.parked()
    assert parked.message_id == "7"
    assert parked.headers["x-death"][0]["reason"] == "rejected"


async def test_headers_that_leave_no_room_for_ours_harm_nobody_else(db: Database, rabbitmq_url: str) -> None:
    async def fail(_: RabbitMessage) -> None:
        raise Park("no")

    async with declared(rabbitmq_url) as rig, consuming(rabbitmq_url, rig.family, db, fail):
        await rig.send(headers={f"h{number}": "x" * 1000 for number in range(105)}, message_id="large")
        await rig.send(message_id="small")
        parked = [await rig.parked(), await rig.parked()]
    reasons = {message.message_id: message.headers.get("x-rollcall-reason") for message in parked}
    assert reasons == {"large": None, "small": "no"}


async def test_forged_counts_count_nothing(db: Database, rabbitmq_url: str) -> None:
    async def fail(_: RabbitMessage) -> None:
        raise Park("no")

    async with declared(rabbitmq_url) as rig, consuming(rabbitmq_url, rig.family, db, fail):
        for forged in ("many", -5, True):
            await rig.send(headers={"x-rollcall-attempts": forged})
            assert (await rig.parked()).headers["x-rollcall-attempts"] == 1


async def test_what_used_up_the_delivery_limit_is_parked_by_the_broker(rabbitmq_url: str) -> None:
    async with declared(rabbitmq_url) as rig:
        await rig.send(message_id="7")
        for _ in range(21):
            async with asyncio.timeout(10):
                # Every connection is cut with the message in its hands.
                async with await aio_pika.connect(rabbitmq_url) as connection:
                    queue = await (await connection.channel()).get_queue(rig.family.main.name, ensure=False)
                    while await queue.get(fail=False) is None:
                        await asyncio.sleep(0.02)
        parked = await rig.parked()
        assert parked.headers["x-death"][0]["reason"] == "delivery_limit"


async def test_a_cancelled_lone_attempt_is_not_held_against_the_message(database_url: str, db: Database, rabbitmq_url: str) -> None:
    begun: asyncio.Queue[RabbitMessage] = asyncio.Queue()

    async def hang(message: RabbitMessage) -> None:
        await begun.put(message)
        await asyncio.Event().wait()

    async with declared(rabbitmq_url) as rig:
        await rig.send()
        for _ in range(6):
            async with consuming(rabbitmq_url, rig.family, db, hang):
                message = await asyncio.wait_for(begun.get(), 10)
                await message.raw_message.channel.connection.close()
                await asyncio.sleep(0.1)
        assert await depth(rig.channel, rig.family.parked.name) == 0
        await asyncio.sleep(0.2)
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("select count(*) from lone_attempts") == 0
    await connection.close()


async def _run_fatal_worker(database_url: str, rabbitmq_url: str, *culprits: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fatal_worker",
        *culprits,
        env={**os.environ, "DATABASE_URL": database_url, "RABBITMQ_URL": rabbitmq_url},
        stderr=asyncio.subprocess.DEVNULL,
    )


async def test_of_three_hundred_changes_only_the_one_that_kills_the_process_is_parked(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    async with clean_broker(rabbitmq_url) as channel, InboundPublisher.connected(rabbitmq_url) as publisher:
        await publish(publisher, [upstream.upsert(str(number), 1) for number in range(300)])
        deaths = 0
        async with asyncio.timeout(120):
            while True:
                worker = await _run_fatal_worker(database_url, rabbitmq_url, "150")
                try:
                    while worker.returncode is None:
                        if (await books(database_url)).taken_in == 299 and await depth(channel, MEMBER_CHANGES.parked.name) == 1:
                            break
                        await asyncio.sleep(0.1)
                    else:
                        deaths += 1
                        assert deaths <= 5
                        continue
                    break
                finally:
                    if worker.returncode is None:
                        worker.kill()
                    await worker.wait()
        parked = await (await channel.get_queue(MEMBER_CHANGES.parked.name)).get()
        assert json.loads(parked.body)["externalId"] == "150"
        assert parked.headers["x-rollcall-reason"] == "ended the process each of the 3 times it was handled alone"
        await parked.ack()
        assert deaths == 5
    held = await books(database_url)
    assert (held.members, held.audited, held.taken_in, held.outbox) == (299, 299, 299, 299)
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("select count(*) from lone_attempts") == 0
    await connection.close()
