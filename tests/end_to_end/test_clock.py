"""The clock as processes: memberships that end and plans that begin while everything runs, and ticks from outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from contracts.channels import COMMANDS, SCHEDULE_TICK, schedule_tick_routing_key
from contracts.envelope import Envelope
from contracts.schedule_tick import ScheduleTickV1
from service.clients.inbound import InboundPublisher
from tests.clock_rig import Clock, ago, open_clock
from tests.relay_rig import eventually
from tests.service_rig import clean_broker, running_module, running_service, subscriber

SECRET = "tick"
OFTEN = {"RECONCILIATION_INTERVAL_MS": "1000"}


@pytest.fixture
async def clock(database_url: str) -> AsyncIterator[Clock]:
    async with open_clock(database_url) as clock:
        yield clock


async def tick_a_hundred_times(rabbitmq_url: str) -> None:
    """At once, by hosts whose clocks are a minute apart."""
    async with InboundPublisher.connected(rabbitmq_url) as publisher:

        async def tick(number: int) -> None:
            at = datetime.now(UTC) + timedelta(seconds=(-30, 0, 30)[number % 3])
            envelope = Envelope(id=str(uuid4()), source="tests", type=SCHEDULE_TICK.message_type, time=at)
            await publisher.publish(SCHEDULE_TICK, envelope, ScheduleTickV1(scheduled_for=at, origin="tests").to_json())

        await asyncio.gather(*(tick(number) for number in range(100)))


async def note_clocks(channel: Any) -> list[timedelta]:
    """How far off the clocks of tickers are, one for each tick from now on as it arrives."""
    off: list[timedelta] = []

    async def note(message: Any) -> None:
        body = json.loads(message.body)
        if body["origin"] == "ticker":
            off.append(datetime.fromisoformat(body["scheduledFor"]) - datetime.now(UTC))

    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(COMMANDS.name, schedule_tick_routing_key())
    await queue.consume(note, no_ack=True)
    return off


async def test_three_instances_whose_clocks_differ_tell_each_end_and_each_plan_once_however_many_tick(
    clock: Clock, database_url: str, rabbitmq_url: str
) -> None:
    await clock.add_members(60, ago(1))
    await clock.add_members(40, ago(-30), local=True)
    await clock.fetch(
        "update members set pending_plan = 'gold', pending_start = $1 where external_id is null", datetime.now(UTC).date()
    )
    async with clean_broker(rabbitmq_url) as channel, subscriber(rabbitmq_url) as seen, AsyncExitStack() as stack:
        clocks = await note_clocks(channel)
        services = [
            await stack.enter_async_context(
                running_module(
                    database_url,
                    rabbitmq_url,
                    "tests.skewed_service",
                    *("run", "worker", "relay", "ticker"),
                    SKEW_SECONDS=off,
                    **OFTEN,
                )
            )
            for off in ("-30", "0", "30")
        ]
        for service in services:
            await service.says("worker takes messages")
        await tick_a_hundred_times(rabbitmq_url)

        # The first of them have come by now: the tickers began before.
        await seen.until(lambda seen: len(seen.received) == 100, within=60)
        assert min(clocks) < timedelta(seconds=-15)
        assert max(clocks) > timedelta(seconds=15)

        # Who ends while they run is told of by a later slot.
        await clock.fetch("update members set expires_at = now() where external_id is null and plan = 'gold'")
        await seen.receive(40, within=60)
        for service in services:
            assert await service.terminate() == 0
    assert seen.repeats == 0
    told = [(event["reasonCode"], event["newState"], event["version"]) for event in seen.events]
    assert {one: told.count(one) for one in set(told)} == {
        ("EXPIRY_RECONCILIATION", "expired", 2): 60,
        ("PLAN_CHANGE", "active", 2): 40,
        ("EXPIRY_RECONCILIATION", "expired", 3): 40,
    }
    slots = await clock.fetch("select schedule_id, slot, count(*) as n from jobs where schedule_id is not null group by 1, 2")
    assert {row["n"] for row in slots} == {1}
    assert not await clock.fetch("select from jobs where state not in ('succeeded', 'queued')")


async def test_the_edge_takes_ticks_from_outside(clock: Clock, database_url: str, rabbitmq_url: str) -> None:
    await clock.add_members(5, ago(1))
    async with (
        clean_broker(rabbitmq_url),
        running_service(database_url, rabbitmq_url, "worker", "relay", "edge", CRON_SECRET=SECRET) as service,
    ):
        await service.says("worker takes messages")
        await service.says("edge takes webhooks")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await service.port()}") as client:
            refused = await client.post("/api/cron", headers={"authorization": "Bearer other"})
            first, *others = await asyncio.gather(
                *(client.post("/api/cron", headers={"authorization": f"Bearer {SECRET}"}) for _ in range(20))
            )
        assert refused.status_code == 401
        assert {answer.status_code for answer in (first, *others)} == {200}
        begun = [one["kind"] for answer in (first, *others) for one in answer.json()["enqueued"]]
        assert len(begun) == len(set(begun))
        assert {"expiry", "plan_changes", "retention"} <= set(begun)

        async def expired() -> bool:
            return (await clock.states()).get("expired", 0) == 5

        await eventually(expired, within=30)
        assert await service.terminate() == 0
