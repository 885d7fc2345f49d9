"""The broker restarts, dies, blocks its publishers, and has no queue for the events: what it confirmed is there, the rest waits."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from deploy.local_stack import private_rabbitmq
from tests.chaos.scenario import Scenario
from tests.relay_rig import eventually
from tests.service_rig import running_service

pytestmark = pytest.mark.chaos

RESTARTS = ("in good order", "killed", "in good order", "killed")
ALARMS_SECONDS = (3, 14)
UNBOUND_SECONDS = (2, 6)
_LIFTED = "memory resource limit alarm cleared on node"


async def test_the_broker_restarts_under_load(scenario: Scenario, database_url: str) -> None:
    """RabbitMQ restarts.

    4 times, under 60 changes a second, in turn in good order and killed by SIGKILL; it stays away for up to 2 s. Between two
    restarts all that was accepted must have come out. What a broker that ended had handed out and not got an answer for, it
    hands out anew and not in the old order: a change may then be overtaken by a later one of its member, before the worker or
    before the subscriber. Only here that is allowed, and counted.
    """
    rng = scenario.rng
    with private_rabbitmq() as broker:
        async with (
            scenario.load(database_url, broker.url) as load,
            running_service(database_url, broker.url, "worker"),
            running_service(database_url, broker.url, "relay"),
        ):
            # RabbitMQ 3.10 may lose what it confirmed when it is killed within two seconds of a quorum queue's declaration.
            await asyncio.sleep(3)
            for kind in RESTARTS:
                await load.delivered()
                await asyncio.to_thread(broker.kill if kind == "killed" else broker.shut_down)
                await asyncio.sleep(rng.uniform(0, 2))
                await asyncio.to_thread(broker.start)
                load.mended()
                await load.caught_up()
            findings = await load.settle()
            await scenario.prove(findings, load, faults=len(RESTARTS), may_overtake=True)


async def test_the_broker_raises_its_memory_alarm(scenario: Scenario, database_url: str) -> None:
    """RabbitMQ raises its memory alarm, and lifts it.

    2 times, for 3 s and for 14 s, which is longer than the relay waits for a confirm, under 60 changes a second: the broker
    reads from no connection that publishes. What is in the outbox waits there, and the source waits too.
    """
    with private_rabbitmq() as broker:
        async with (
            scenario.load(database_url, broker.url) as load,
            running_service(database_url, broker.url, "worker"),
            running_service(database_url, broker.url, "relay"),
        ):
            for turn, seconds in enumerate(ALARMS_SECONDS):
                await load.delivered()
                await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.0001")
                await asyncio.sleep(seconds)
                lifting = asyncio.create_task(asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.6"))
                # The command takes seconds to start and to end.
                await eventually(lambda times=turn + 1: broker.log.count(_LIFTED) >= times, within=60)
                load.mended()
                await lifting
                await load.caught_up()
            findings = await load.settle()
            await scenario.prove(findings, load, faults=len(ALARMS_SECONDS))


async def test_no_queue_is_bound_for_the_events(scenario: Scenario, database_url: str, rabbitmq_url: str) -> None:
    """No queue is bound for the events.

    2 times, for 2 s and for 6 s, under 60 changes a second: the subscriber's queue is unbound, every event comes back as
    unroutable and waits in the outbox, each member's first before its others; then the queue is bound again.
    """
    refused = 0
    async with (
        scenario.load(database_url, rabbitmq_url) as load,
        running_service(database_url, rabbitmq_url, "worker"),
        running_service(database_url, rabbitmq_url, "relay"),
    ):
        for seconds in UNBOUND_SECONDS:
            await load.delivered()
            await load.unbind()
            await asyncio.sleep(seconds)
            refused += await _refused(database_url)
            await load.bind()
            load.mended()
            await load.caught_up()
        findings = await load.settle()
    assert refused, "nothing was unroutable"
    await scenario.prove(findings, load, faults=len(UNBOUND_SECONDS), members_whose_events_waited=f"{refused:,}")


async def _refused(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval("select count(*) from outbox where attempts > 0"))
    finally:
        await connection.close()
