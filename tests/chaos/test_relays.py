"""Relays that are killed, replaced and paused: what the broker has confirmed is deleted once, what it has not is sent again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tests.chaos.faulty_relay import IN_FLIGHT, KILLED, STOPPED
from tests.chaos.scenario import Scenario
from tests.relay_rig import eventually
from tests.service_rig import RunningService, running_module, running_service

pytestmark = pytest.mark.chaos

KILLS, TAKEOVERS, PAUSES = 200, 3, 2
LEASE_SECONDS = 10

_OWNERS = """
select holder, count(*) as buckets from leases where resource like 'relay/%' and expires_at > clock_timestamp() group by holder
"""


async def owners(database_url: str) -> dict[Any, int]:
    """How many buckets each relay owns now."""
    connection = await asyncpg.connect(database_url)
    try:
        return {row["holder"]: row["buckets"] for row in await connection.fetch(_OWNERS)}
    finally:
        await connection.close()


async def owned_by(database_url: str, relays: int) -> None:
    """Wait until so many relays own all buckets."""

    async def shared() -> bool:
        found = await owners(database_url)
        return len(found) == relays and sum(found.values()) == 64

    await eventually(shared, within=60)


@asynccontextmanager
async def working(database_url: str, rabbitmq_url: str, *relays: str) -> AsyncIterator[list[RunningService]]:
    """A worker and the relays that are named, each with what it says."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running_service(database_url, rabbitmq_url, "worker"))
        yield [await stack.enter_async_context(running_service(database_url, rabbitmq_url, relay)) for relay in relays]


async def test_relays_are_killed_between_confirm_and_delete(scenario: Scenario, database_url: str, rabbitmq_url: str) -> None:
    """Relays are killed between the broker's confirm and the delete.

    200 times, under 40 changes a second: two relays run at a time, each is killed by SIGKILL after its first, second or third
    window was confirmed and before its rows were deleted, by a fail point in a process of the tests' own. Their windows hold 32
    messages, two are in flight, and their leases last 0.6 s, so that the next relay goes on at once. In the end an ordinary
    relay takes over. What was confirmed and not deleted must come again, and no more than the 64 messages in flight for each
    kill.
    """
    async with scenario.load(database_url, rabbitmq_url, rate=40) as load, working(database_url, rabbitmq_url):
        arguments = ("tests.chaos.faulty_relay", "die", str(KILLS), f"{scenario.seed}")
        async with running_module(database_url, rabbitmq_url, *arguments) as dying:
            async with asyncio.timeout(400):
                assert await dying.process.wait() == 0, dying.output
            deaths = [line for line in dying.logs if line["event"] == KILLED]
        async with running_service(database_url, rabbitmq_url, "relay") as relay:
            await relay.says("rollcall starts")
            load.mended()
            await load.caught_up()
            findings = await load.settle()
    assert len(deaths) == KILLS
    confirmed = sum(death["confirmed"] for death in deaths)
    assert confirmed <= findings.repeated <= KILLS * IN_FLIGHT
    await scenario.prove(
        findings,
        load,
        faults=KILLS,
        confirmed_and_not_deleted_when_killed=f"{confirmed:,}",
        longest_wait_of_a_change_while_they_died=f"{load.longest_wait():.1f} s",
        repeated_for_each_kill=f"{findings.repeated / KILLS:.1f} of at most {IN_FLIGHT}",
    )


async def test_a_killed_relay_is_replaced(scenario: Scenario, database_url: str, rabbitmq_url: str) -> None:
    """A relay is killed and the other takes its buckets.

    3 times, under 60 changes a second: two ordinary relays share the 64 buckets, one is killed by SIGKILL, the other must own
    all of them once the leases of 10 s have ended. Then another is started, and takes its half back.
    """
    async with scenario.load(database_url, rabbitmq_url) as load, working(database_url, rabbitmq_url), AsyncExitStack() as stack:

        async def start() -> RunningService:
            return await stack.enter_async_context(running_service(database_url, rabbitmq_url, "relay"))

        relays = [await start(), await start()]
        for _ in range(TAKEOVERS):
            await owned_by(database_url, 2)
            await load.delivered()
            relays.pop(0).kill()
            load.mended()
            await owned_by(database_url, 1)
            await load.caught_up()
            relays.append(await start())
        findings = await load.settle()
    await scenario.prove(findings, load, faults=TAKEOVERS)


@pytest.mark.parametrize("where", ["anywhere", "with a window in hand"])
async def test_a_relay_that_was_stopped_past_its_lease_harms_nothing(
    scenario: Scenario, database_url: str, rabbitmq_url: str, where: str
) -> None:
    """A relay is stopped past its lease and goes on.

    2 times anywhere, 2 times at the worst moment, under 60 changes a second: the relay that owns buckets is stopped by SIGSTOP,
    until the other relay owns all buckets and has published what waited; then SIGCONT. The worst moment is with a window in
    hand: claimed, its lease checked, not yet written. That window goes out late, as repeats that the version filter drops.
    """
    in_hand = where != "anywhere"
    stopping = ("tests.chaos.faulty_relay", "stop") if in_hand else ("service", "run", "relay")
    sent_late = 0
    async with (
        scenario.load(database_url, rabbitmq_url) as load,
        working(database_url, rabbitmq_url, "relay"),
        running_module(database_url, rabbitmq_url, *stopping) as relay,
    ):
        for turn in range(PAUSES):
            await owned_by(database_url, 2)
            await load.delivered()
            if in_hand:
                relay.process.send_signal(signal.SIGUSR1)
                await eventually(lambda stops=turn + 1: len(_stops(relay)) == stops, within=60)
                sent_late += int(_stops(relay)[turn]["messages"])
            else:
                relay.process.send_signal(signal.SIGSTOP)
            load.mended()
            await owned_by(database_url, 1)
            await load.caught_up()
            relay.process.send_signal(signal.SIGCONT)
        await owned_by(database_url, 2)
        findings = await load.settle()
    assert findings.repeated >= sent_late
    await scenario.prove(findings, load, faults=PAUSES)


def _stops(relay: RunningService) -> list[dict[str, Any]]:
    return [line for line in relay.logs if line["event"] == STOPPED]
