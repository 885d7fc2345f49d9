"""Many changes, and everything killed while they run."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aio_pika
import pytest

from contracts.channels import MEMBER_CHANGED, MEMBER_CHANGES
from deploy.local_stack import RabbitmqNode, private_postgres, private_rabbitmq
from service.clients.inbound import InboundPublisher, NotDeliveredError
from service.domain.errors import Unavailable
from service.entrypoints.consumers.failures import REASON_HEADER
from service.store.migrate import migrate
from tests.service_rig import (
    Subscriber,
    Upstream,
    books,
    broken_histories,
    clean_broker,
    depth,
    envelope,
    publish,
    running_service,
    subscriber,
)


async def test_one_poison_among_ten_thousand_is_parked_with_its_reason(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    changes: list[dict[str, Any] | bytes] = [upstream.upsert(str(number), 1) for number in range(10_000)]
    poison = upstream.upsert("4711", 1)
    poison["member"]["email"] = 17
    changes[4711] = poison
    async with clean_broker(rabbitmq_url) as channel, subscriber(rabbitmq_url) as seen:
        async with running_service(database_url, rabbitmq_url), InboundPublisher.connected(rabbitmq_url) as publisher:
            await publish(publisher, changes, window=200)
            await seen.until(lambda seen: len(seen.events) == 9_999, within=120)
        assert await depth(channel, MEMBER_CHANGES.parked.name) == 1
        parked = await (await channel.get_queue(MEMBER_CHANGES.parked.name)).get()
        assert parked.headers[REASON_HEADER] == "member.email: must be a string"
        await parked.ack()
        assert await depth(channel, MEMBER_CHANGES.main.name) == 0
    held = await books(database_url)
    assert (held.members, held.audited, held.taken_in, held.outbox) == (9_999, 9_999, 9_999, 0)
    assert seen.overtaken == 0


_VICTIMS = ("worker", "relay", "broker") * 2


@pytest.mark.parametrize("count", [4_000, pytest.param(20_000, marks=pytest.mark.slow)])
async def test_worker_relay_and_broker_killed_in_turn(count: int) -> None:
    """Nothing lost, each effect once, no member out of order after version filtering.

    A broker that was killed may hand messages out anew in another order, so that a change may be overtaken at the worker too:
    it is taken in, and stale. What then holds is that every version that was made has left, and that the last change won.
    """
    with private_postgres() as postgres, private_rabbitmq() as broker:
        await migrate(postgres.url)
        upstream = await Upstream.register(postgres.url)
        members = count // 10
        changes = [upstream.upsert(str(n % members), n // members + 1, plan=f"plan {n // members}") for n in range(count)]
        async with clean_broker(broker.url):
            # A queue that was just declared may lose confirmed messages when 3.10 is killed.
            await asyncio.sleep(3)
        async with subscriber(broker.url) as seen:
            for turn, victim in enumerate(_VICTIMS):
                start, end = count * turn // len(_VICTIMS), count * (turn + 1) // len(_VICTIMS)
                feeding = asyncio.create_task(_feed_whatever_happens(broker.url, changes[start:end]))
                await _kill_while_running(victim, postgres.url, broker, seen, (end - start) // 4)
                await feeding
            await _until_settled(postgres.url, broker.url, seen, count)
        held = await books(postgres.url)
        assert (held.members, held.taken_in, held.outbox) == (members, count, 0)
        assert held.audited == len(seen.received) >= count * 0.8
        assert await broken_histories(postgres.url) == 0
        assert {event["plan"] for event in seen.latest.values()} == {"plan 9"}
        assert len(seen.latest) == members


async def _until_settled(database_url: str, broker_url: str, seen: Subscriber, count: int) -> None:
    async with running_service(database_url, broker_url), asyncio.timeout(120):
        while True:
            held = await books(database_url)
            if held.taken_in == count and not held.outbox and len(seen.received) == held.audited:
                return
            await asyncio.sleep(0.2)


async def _kill_while_running(victim: str, database_url: str, broker: RabbitmqNode, seen: Subscriber, more: int) -> None:
    """Kill one of the three when `more` events have come; where it is the broker, the processes must find their way back."""
    async with (
        running_service(database_url, broker.url, "worker") as worker,
        running_service(database_url, broker.url, "relay") as relay,
    ):
        await seen.receive(more, within=120)
        match victim:
            case "worker":
                worker.kill()
            case "relay":
                relay.kill()
            case _:
                await asyncio.to_thread(broker.kill)
                await asyncio.sleep(1)
                await asyncio.to_thread(broker.start)
                await seen.receive(more, within=120)


async def _feed_whatever_happens(url: str, changes: list[dict[str, Any]]) -> None:
    """An upstream that sends each change until it is confirmed, in order, and under the same id each time."""
    waiting = [(envelope(), change) for change in changes]
    while waiting:
        try:
            async with InboundPublisher.connected(url) as publisher:
                while waiting:
                    await _send_window(publisher, waiting)
        except (Unavailable, NotDeliveredError, aio_pika.exceptions.AMQPError, OSError):
            await asyncio.sleep(0.3)


async def _send_window(publisher: InboundPublisher, waiting: list[Any]) -> None:
    window = waiting[:50]
    await asyncio.gather(*(publisher.publish(MEMBER_CHANGED, sent, json.dumps(body).encode()) for sent, body in window))
    del waiting[:50]
