"""The clock as processes: memberships that end and plans that begin while everything runs, and ticks from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import httpx
import pytest

from tests.clock_rig import Clock, ago, open_clock
from tests.relay_rig import eventually
from tests.service_rig import clean_broker, running_service, subscriber

SECRET = "tick"
OFTEN = {"RECONCILIATION_INTERVAL_MS": "1000"}


@pytest.fixture
async def clock(database_url: str) -> AsyncIterator[Clock]:
    async with open_clock(database_url) as clock:
        yield clock


async def test_three_instances_tell_each_end_and_each_plan_once(clock: Clock, database_url: str, rabbitmq_url: str) -> None:
    await clock.add_members(60, ago(1))
    await clock.add_members(40, ago(-30), local=True)
    await clock.fetch(
        "update members set pending_plan = 'gold', pending_start = $1 where external_id is null", datetime.now(UTC).date()
    )
    async with clean_broker(rabbitmq_url), subscriber(rabbitmq_url) as seen, AsyncExitStack() as stack:
        services = [
            await stack.enter_async_context(running_service(database_url, rabbitmq_url, "worker", "relay", "ticker", **OFTEN))
            for _ in range(3)
        ]

        await seen.receive(100, within=60)

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
