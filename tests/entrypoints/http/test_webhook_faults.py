"""A webhook is accepted only when it can be consumed: what the broker, the database and the network do to that.

Each answer of 503 comes while its fault lasts: nothing but the edge's own limit can have ended the wait. How long that is stands in
tests/entrypoints/http/test_webhook_limits.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import httpx
import pytest

from contracts.channels import INBOUND, WEBHOOK_RECEIVED, WEBHOOKS
from deploy.local_stack import RabbitmqNode
from service.settings import load_settings
from service.wiring.worker import Worker
from tests.fault_proxy import FaultProxy
from tests.relay_rig import eventually
from tests.webhook_rig import Door, Sender, open_door, payload


@asynccontextmanager
async def working(database_url: str, rabbitmq_url: str) -> AsyncIterator[Worker]:
    worker = Worker(load_settings(database_url=database_url, rabbitmq_url=rabbitmq_url, shutdown_grace_seconds=5))
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


async def members(database_url: str) -> list[tuple[str, int]]:
    connection = await asyncpg.connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch("select external_id, version from members order by 1")]
    finally:
        await connection.close()


async def status_of(request: Awaitable[httpx.Response]) -> int:
    answer = await request
    if answer.status_code == 503:
        assert answer.headers["retry-after"]
    return answer.status_code


async def until_taken(door: Door, sender: Sender, *, message_id: str, within: float = 30) -> int:
    """Send the same webhook as a provider does, until it is accepted; answers how often that took."""
    tries = 0
    async with asyncio.timeout(within):
        while True:
            tries += 1
            status = await status_of(door.post(sender, payload(), message_id=message_id))
            assert status in (202, 503)
            if status == 202:
                return tries
            await asyncio.sleep(0.2)


async def test_fifty_posts_of_one_webhook_at_once_have_one_effect(database_url: str, rabbitmq_url: str, tmp_path: Path) -> None:
    sender = await Sender.register(database_url)
    async with open_door(database_url, rabbitmq_url, tmp_path) as door, working(database_url, rabbitmq_url) as worker:
        answers = await asyncio.gather(*(door.post(sender, payload(), message_id="msg_1") for _ in range(50)))
        assert [answer.status_code for answer in answers] == [202] * 50
        await eventually(lambda: sum(worker.outcomes.values()) == 50, within=20)
        assert worker.outcomes == {"applied": 1, "duplicate": 49}
        assert await members(database_url) == [("ada", 1)]
        # A replay within the tolerance, byte for byte.
        assert (await door.post(sender, payload(), message_id="msg_1")).status_code == 202
        await eventually(lambda: sum(worker.outcomes.values()) == 51)
        assert worker.outcomes["applied"] == 1


async def unbound(door: Door) -> Callable[[], Awaitable[Any]]:
    """Nobody takes webhooks any more; answers how to mend it."""
    queue = await door.channel.get_queue(WEBHOOKS.main.name)
    await queue.unbind(INBOUND.name, WEBHOOK_RECEIVED.binding_key)
    return lambda: queue.bind(INBOUND.name, WEBHOOK_RECEIVED.binding_key)


async def rejecting(door: Door) -> Callable[[], Awaitable[Any]]:
    """A queue that is full beside the right one: the broker takes it for both or for none."""
    full = await door.channel.declare_queue(
        f"full-{uuid4().hex[:8]}",
        durable=True,
        arguments={"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"},
    )
    await full.bind(INBOUND.name, WEBHOOK_RECEIVED.binding_key)
    exchange = await door.channel.get_exchange(INBOUND.name)
    # A quorum queue notices that it is full a little late.
    for _ in range(50):
        try:
            await exchange.publish(aio_pika.Message(b"{}"), "webhook.filler")
        except aio_pika.exceptions.DeliveryError:
            break
    await (await door.channel.get_queue(WEBHOOKS.main.name)).purge()

    async def mend() -> None:
        await full.delete(if_unused=False, if_empty=False)
        await (await door.channel.get_queue(WEBHOOKS.main.name)).purge()

    return mend


@pytest.mark.parametrize("fault", [unbound, rejecting])
async def test_a_webhook_that_no_queue_takes_is_refused_and_its_retry_has_one_effect(
    database_url: str, rabbitmq_url: str, tmp_path: Path, fault: Callable[[Door], Awaitable[Callable[[], Awaitable[Any]]]]
) -> None:
    sender = await Sender.register(database_url)
    async with open_door(database_url, rabbitmq_url, tmp_path) as door:
        mend = await fault(door)
        try:
            assert await status_of(door.post(sender, payload(), message_id="msg_1")) == 503
        finally:
            await mend()
        async with working(database_url, rabbitmq_url) as worker:
            await until_taken(door, sender, message_id="msg_1")
            await eventually(lambda: worker.outcomes.get("applied") == 1)
        assert await members(database_url) == [("ada", 1)]


@contextmanager
def paused(node: RabbitmqNode) -> Iterator[None]:
    node.pause()
    try:
        yield
    finally:
        node.resume()


@contextmanager
def memory_alarm(node: RabbitmqNode) -> Iterator[None]:
    node.ctl("set_vm_memory_high_watermark", "0.0001")
    try:
        yield
    finally:
        node.ctl("set_vm_memory_high_watermark", "0.6")


@contextmanager
def killed(node: RabbitmqNode) -> Iterator[None]:
    node.kill()
    try:
        yield
    finally:
        node.start()


@pytest.mark.parametrize("fault", [paused, memory_alarm, killed])
async def test_a_broker_that_does_not_confirm_is_told_in_time_and_a_resend_has_one_effect(
    database_url: str, own_broker: RabbitmqNode, tmp_path: Path, fault: Callable[[RabbitmqNode], Any]
) -> None:
    sender = await Sender.register(database_url)
    async with open_door(database_url, own_broker.url, tmp_path) as door:
        assert await status_of(door.post(sender, payload("before"))) == 202
        fault_of_node = fault(own_broker)
        await asyncio.to_thread(fault_of_node.__enter__)
        try:
            for burst in (1, 20, 20):
                posts = (status_of(door.post(sender, payload(), message_id="msg_1")) for _ in range(burst))
                assert set(await asyncio.gather(*posts)) == {503}
        finally:
            await asyncio.to_thread(fault_of_node.__exit__, None, None, None)
        await until_taken(door, sender, message_id="msg_1")
        async with working(database_url, own_broker.url) as worker:
            await eventually(lambda: worker.outcomes.get("applied") == 2, within=20)
        assert await members(database_url) == [("ada", 1), ("before", 1)]


async def test_a_stalled_network_to_the_broker_is_told_in_time(database_url: str, rabbitmq_url: str, tmp_path: Path) -> None:
    sender = await Sender.register(database_url)
    async with (
        FaultProxy.before(rabbitmq_url) as proxy,
        open_door(database_url, rabbitmq_url, tmp_path, edge_broker=proxy.url) as door,
    ):
        assert await status_of(door.post(sender, payload())) == 202
        proxy.stall()
        assert await status_of(door.post(sender, payload())) == 503
        proxy.flow()
        await until_taken(door, sender, message_id="msg_2")


async def test_a_cut_connection_to_the_broker_costs_no_webhook_that_was_accepted(
    database_url: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    sender = await Sender.register(database_url)
    accepted: set[str] = set()
    async with (
        FaultProxy.before(rabbitmq_url) as proxy,
        open_door(database_url, rabbitmq_url, tmp_path, edge_broker=proxy.url) as door,
    ):

        async def send(number: int) -> None:
            name = f"msg_{number}"
            if (await door.post(sender, payload(), message_id=name)).status_code == 202:
                accepted.add(name)

        for start in range(0, 200, 40):
            sending = [asyncio.create_task(send(number)) for number in range(start, start + 40)]
            await asyncio.sleep(0.01)
            proxy.cut()
            await asyncio.gather(*sending)
            await asyncio.sleep(0.3)
        async with open_consumer(rabbitmq_url) as taken:
            assert accepted
            await eventually(lambda: accepted <= taken)


@asynccontextmanager
async def open_consumer(rabbitmq_url: str) -> AsyncIterator[set[str]]:
    taken: set[str] = set()
    connection = await aio_pika.connect(rabbitmq_url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.get_queue(WEBHOOKS.main.name)

        async def take(message: Any) -> None:
            taken.add(message.message_id)
            await message.ack()

        await queue.consume(take)
        yield taken


async def test_while_the_database_is_away_known_sources_are_taken_and_unknown_ones_told_to_come_back(
    database_url: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    known, unknown = await Sender.register(database_url), await Sender.register(database_url)
    async with FaultProxy.before(database_url) as proxy, open_door(proxy.url, rabbitmq_url, tmp_path) as door:
        door.forgets_after(0.3)
        assert (await door.post(known, payload())).status_code == 202
        for away in (proxy.stall, lambda: setattr(proxy, "refusing", True)):
            away()
            proxy.cut()
            await asyncio.sleep(0.4)
            for _ in range(5):
                assert await status_of(door.post(known, payload())) == 202
            assert await status_of(door.post(unknown, payload())) == 503
            proxy.flow()
        proxy.refusing = False
        await eventually(lambda: _taken(door, unknown), within=20)


async def _taken(door: Door, sender: Sender) -> bool:
    return (await door.post(sender, payload())).status_code == 202
