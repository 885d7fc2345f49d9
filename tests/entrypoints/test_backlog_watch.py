"""The gauges of the outbox, the leases and the queues: right, bounded, and gone while nobody can see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from contracts.channels import QueueFamily, queue_family
from service.entrypoints.loops.backlog_watch import BacklogWatch
from service.telemetry.metric_names import (
    LEASES_RELAYS,
    LEASES_UNOWNED,
    OUTBOX_AGE,
    OUTBOX_BLOCKED,
    OUTBOX_MESSAGES,
    QUEUE_CONSUMERS,
    QUEUE_MESSAGES,
    Stage,
)
from service.telemetry.metrics import Metrics
from tests.fault_proxy import FaultProxy
from tests.relay_rig import eventually, open_database, open_outbox, running_relay

EVERY = timedelta(milliseconds=50)


@pytest.fixture(autouse=True)
def _however_slow_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.entrypoints.loops.backlog_watch._SHARE", 0)


@asynccontextmanager
async def watching(database_url: str, broker_url: str, *families: QueueFamily, every: timedelta = EVERY) -> AsyncIterator[Metrics]:
    metrics = Metrics((Stage.BACKLOG,))
    async with open_database(database_url) as database:
        watch = asyncio.create_task(BacklogWatch(database, broker_url, families, metrics, name="test", every=every).run())
        try:
            yield metrics
        finally:
            watch.cancel()
            # Nothing but this ends it.
            with pytest.raises(asyncio.CancelledError):
                await watch


@pytest.fixture
async def family(rabbitmq_url: str) -> AsyncIterator[QueueFamily]:
    """Three messages wait, one of them parked."""
    family = queue_family(f"watched-{uuid4().hex[:8]}")
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        for queue in family.queues:
            await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
        for queue in (family.main, family.main, family.parked):
            await channel.default_exchange.publish(aio_pika.Message(b"{}"), queue.name)
        yield family
        for queue in family.queues:
            await channel.queue_delete(queue.name)


async def test_what_waits_in_the_outbox_and_who_owns_it_is_seen(database_url: str, rabbitmq_url: str) -> None:
    async with open_outbox(database_url, "nowhere") as outbox, watching(database_url, rabbitmq_url) as metrics:
        await eventually(lambda: metrics.counted(LEASES_UNOWNED) == {(): 64})
        assert metrics.counted(OUTBOX_MESSAGES) == {}
        key = uuid4()
        first, *_ = await outbox.insert((key, 1), (key, 2), (uuid4(), 1))
        await outbox.connection.execute(
            "update outbox set attempts = 1, next_attempt_at = now() + interval '1 hour', last_error = 'unroutable',"
            " created_at = now() - interval '90 seconds' where id = $1",
            first,
        )
        await eventually(lambda: metrics.counted(OUTBOX_BLOCKED) == {(): 1})
        assert metrics.counted(OUTBOX_MESSAGES) == {(): 3}
        assert 90 <= metrics.counted(OUTBOX_AGE)[()] < 200
        await outbox.connection.execute("delete from outbox")
        await eventually(lambda: metrics.counted(OUTBOX_MESSAGES) == metrics.counted(OUTBOX_AGE) == {})
        async with running_relay(database_url, rabbitmq_url):
            await eventually(lambda: metrics.counted(LEASES_RELAYS) == {(): 1} and metrics.counted(LEASES_UNOWNED) == {})
        await eventually(lambda: metrics.counted(LEASES_RELAYS) == {} and metrics.counted(LEASES_UNOWNED) == {(): 64})


async def test_the_queues_are_seen_part_by_part_and_one_that_is_deleted_is_not_any_more(
    database_url: str, rabbitmq_url: str, family: QueueFamily
) -> None:
    name = family.main.name
    async with watching(database_url, rabbitmq_url, family) as metrics:
        await eventually(lambda: metrics.counted(QUEUE_MESSAGES) == {(name, "main"): 2, (name, "parked"): 1})
        async with await aio_pika.connect(rabbitmq_url) as connection:
            channel = await connection.channel()
            queue = await channel.get_queue(name)
            await queue.consume(AbstractIncomingMessage.ack)
            await eventually(lambda: metrics.counted(QUEUE_CONSUMERS) == {(name,): 1})
            await channel.queue_delete(family.parked.name)
            await eventually(lambda: 'part="parked"' not in metrics.exposed("")[0].decode())
            assert f'rollcall_queue_messages{{part="retry",queue="{name}"}} 0.0' in metrics.exposed("")[0].decode()


@pytest.mark.parametrize("fault", ["cut", "stall"])
async def test_while_nobody_answers_the_gauges_are_gone_and_they_come_back(
    fault: str, database_url: str, rabbitmq_url: str, family: QueueFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.entrypoints.loops.backlog_watch._LOOK_SECONDS", 0.5)
    monkeypatch.setattr("service.clients.amqp_connection._SECONDS", 0.5)
    async with (
        FaultProxy.before(database_url) as to_database,
        FaultProxy.before(rabbitmq_url) as to_broker,
        watching(to_database.url, to_broker.url, family) as metrics,
    ):

        def seen() -> tuple[bool, bool]:
            return bool(metrics.counted(LEASES_UNOWNED)), bool(metrics.counted(QUEUE_MESSAGES))

        await eventually(lambda: seen() == (True, True))
        for proxy in (to_database, to_broker):
            proxy.refusing = True
            getattr(proxy, fault)()
        await eventually(lambda: seen() == (False, False), within=20)
        for proxy in (to_database, to_broker):
            proxy.refusing = False
            proxy.flow()
        await eventually(lambda: seen() == (True, True), within=20)


async def test_a_connection_that_is_lost_between_two_looks_is_opened_anew(
    database_url: str, rabbitmq_url: str, family: QueueFamily
) -> None:
    every = timedelta(seconds=1)
    async with (
        FaultProxy.before(rabbitmq_url) as to_broker,
        watching(database_url, to_broker.url, family, every=every) as metrics,
    ):
        await eventually(lambda: bool(metrics.counted(QUEUE_MESSAGES)))
        to_broker.cut()
        await eventually(lambda: not metrics.counted(QUEUE_MESSAGES))
        await eventually(lambda: bool(metrics.counted(QUEUE_MESSAGES)))
