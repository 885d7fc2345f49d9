"""Many changes, and everything killed while they run."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aio_pika
import pytest

from contracts.channels import MEMBER_CHANGED, MEMBER_CHANGES
from deploy.local_stack import RabbitmqNode
from service.clients.inbound import InboundPublisher, NotDeliveredError
from service.domain.errors import Unavailable
from service.entrypoints.consumers.failures import REASON_HEADER
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


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_one_poison_among_many_is_parked_with_its_reason(database_url: str, rabbitmq_url: str, count: int) -> None:
    upstream = await Upstream.register(database_url)
    changes: list[dict[str, Any] | bytes] = [upstream.upsert(str(number), 1) for number in range(count)]
    poison = upstream.upsert("471", 1)
    poison["member"]["email"] = 17
    changes[471] = poison
    async with clean_broker(rabbitmq_url) as channel, subscriber(rabbitmq_url) as seen:
        async with running_service(database_url, rabbitmq_url), InboundPublisher.connected(rabbitmq_url) as publisher:
            await publish(publisher, changes, window=200)
            await seen.until(lambda seen: len(seen.events) == count - 1, within=120)
        assert await depth(channel, MEMBER_CHANGES.parked.name) == 1
        parked = await (await channel.get_queue(MEMBER_CHANGES.parked.name)).get()
        assert parked.headers[REASON_HEADER] == "member.email: must be a string"
        await parked.ack()
        assert await depth(channel, MEMBER_CHANGES.main.name) == 0
    held = await books(database_url)
    assert (held.members, held.audited, held.taken_in, held.outbox) == (count - 1, count - 1, count - 1, 0)
    assert seen.overtaken == 0


@pytest.mark.parametrize(("count", "turns"), [(1_500, 1), pytest.param(20_000, 3, marks=pytest.mark.slow)])
async def test_worker_and_relay_killed_in_turn(database_url: str, rabbitmq_url: str, count: int, turns: int) -> None:
    """Nothing lost, each effect once, and the order exact: every change makes a version, and no event comes after a later one.

    A queue puts what a dead consumer had in hand back in its old place, one worker at a time applies in the order of arrival,
    and a relay that took over claims a member's lowest row: nothing can be overtaken while the broker lives.
    """
    upstream = await Upstream.register(database_url)
    victims = ("worker", "relay") * turns
    changes = _versions_in_turn(upstream, count)
    async with clean_broker(rabbitmq_url), subscriber(rabbitmq_url) as seen, InboundPublisher.connected(rabbitmq_url) as publisher:
        for turn, victim in enumerate(victims):
            start, end = count * turn // len(victims), count * (turn + 1) // len(victims)
            feeding = asyncio.create_task(publish(publisher, changes[start:end]))
            async with (
                running_service(database_url, rabbitmq_url, "worker") as worker,
                running_service(database_url, rabbitmq_url, "relay") as relay,
            ):
                await seen.receive((end - start) // 4, within=120)
                (worker if victim == "worker" else relay).kill()
            await feeding
        await _until_settled(database_url, rabbitmq_url, seen, count)
        held = await books(database_url)
    assert (held.members, held.audited, held.taken_in, held.outbox) == (count // 10, count, count, 0)
    assert len(seen.received) == count
    assert seen.overtaken == 0
    assert await broken_histories(database_url) == 0
    assert {event["plan"] for event in seen.latest.values()} == {"plan 9"}


@pytest.mark.parametrize(("count", "kills"), [(1_500, 1), pytest.param(20_000, 3, marks=pytest.mark.slow)])
async def test_the_broker_is_killed_under_a_worker_and_a_relay(
    database_url: str, own_broker: RabbitmqNode, count: int, kills: int
) -> None:
    """Nothing lost, each effect once, no member out of order after version filtering.

    A broker that was killed may hand out anew what it had handed out, in another order and beside what came later, so that a
    change may be overtaken: at the worker it is then taken in, and stale; at the subscriber its filter drops it. What holds is
    that every version that was made has left, and that the last change won.
    """
    upstream = await Upstream.register(database_url)
    changes = _versions_in_turn(upstream, count)
    async with subscriber(own_broker.url) as seen:
        # A queue that was just declared may lose confirmed messages when 3.10 is killed.
        await asyncio.sleep(3)
        for turn in range(kills):
            start, end = count * turn // kills, count * (turn + 1) // kills
            feeding = asyncio.create_task(_feed_whatever_happens(own_broker.url, changes[start:end]))
            await _kill_while_running(database_url, own_broker, seen, (end - start) // 4)
            await feeding
        await _until_settled(database_url, own_broker.url, seen, count)
    held = await books(database_url)
    assert (held.members, held.taken_in, held.outbox) == (count // 10, count, 0)
    assert held.audited == len(seen.received) >= count * 0.8
    assert await broken_histories(database_url) == 0
    assert {event["plan"] for event in seen.latest.values()} == {"plan 9"}
    assert len(seen.latest) == count // 10


def _versions_in_turn(upstream: Upstream, count: int) -> list[dict[str, Any]]:
    """Ten versions of each member, all members' first ones first."""
    members = count // 10
    return [upstream.upsert(str(n % members), n // members + 1, plan=f"plan {n // members}") for n in range(count)]


async def _until_settled(database_url: str, broker_url: str, seen: Subscriber, count: int) -> None:
    async with running_service(database_url, broker_url), asyncio.timeout(120):
        while True:
            held = await books(database_url)
            if held.taken_in == count and not held.outbox and len(seen.received) == held.audited:
                return
            await asyncio.sleep(0.2)


async def _kill_while_running(database_url: str, broker: RabbitmqNode, seen: Subscriber, more: int) -> None:
    """Kill the broker when `more` events have come, and start it again: the processes must find their way back."""
    async with running_service(database_url, broker.url, "worker"), running_service(database_url, broker.url, "relay"):
        await seen.receive(more, within=120)
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
