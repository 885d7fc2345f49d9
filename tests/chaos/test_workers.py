"""Workers that are killed with messages in hand, by a message, and told to stop while nothing moves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import httpx
import pytest

from contracts.channels import MEMBER_CHANGES
from contracts.failures import REASON_HEADER
from tests.chaos.ledger import Stored, compare
from tests.chaos.load import Load
from tests.chaos.scenario import Scenario
from tests.fault_proxy import FaultProxy
from tests.relay_rig import eventually
from tests.service_rig import RunningService, depth, running_module, running_service
from tests.webhook_rig import Sender, payload, write_secrets

pytestmark = pytest.mark.chaos

WORKERS, POSTS, WEBHOOKS, KILLED_EACH = 4, 100, 3, 2
CULPRITS = 2
IN_HAND, GRACE_SECONDS, MARGIN_SECONDS = 50, 5, 5

_WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


async def test_one_webhook_comes_a_hundred_times(scenario: Scenario, database_url: str, rabbitmq_url: str, tmp_path: Path) -> None:
    """One webhook comes 100 times over 4 consumers, 2 of which are killed.

    3 webhooks, one after the other: each is posted 100 times at once, all are answered 202, and 4 workers take them in hand. A
    lock of the tests' own keeps all 4 in mid-transaction while 2 are killed by SIGKILL and 2 new ones start. Each webhook must
    have one effect.
    """
    rng = scenario.rng
    sender = await Sender.register(database_url)
    names = [f"hook-{number}" for number in range(WEBHOOKS)]
    async with (
        scenario.load(database_url, rabbitmq_url, rate=0) as load,
        running_service(database_url, rabbitmq_url, "edge", "relay", SECRETS_DIR=str(write_secrets(tmp_path))) as edge,
        AsyncExitStack() as stack,
    ):

        async def start() -> RunningService:
            worker = await stack.enter_async_context(running_service(database_url, rabbitmq_url, "worker"))
            await worker.says("worker takes messages", within=60)
            return worker

        workers = [await start() for _ in range(WORKERS)]
        await edge.says("edge takes webhooks")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await edge.port()}", timeout=10) as client:
            for name in names:
                load.ledger.offer(name, name, 1)
                # Counted here: it may come while the lock is given back.
                goal = len(load.seen.received) + 1
                async with _locked_inbox(database_url) as waiting:
                    body = json.dumps(payload(name)).encode()
                    headers = sender.headers(body, message_id=name)
                    answers = await asyncio.gather(*(client.post(sender.path, content=body, headers=headers) for _ in range(POSTS)))
                    assert [answer.status_code for answer in answers] == [202] * POSTS
                    load.ledger.accept(name)
                    await eventually(lambda: waiting(WORKERS), within=30)
                    for _ in range(KILLED_EACH):
                        workers.pop(rng.randrange(len(workers))).kill()
                    workers += [await start() for _ in range(KILLED_EACH)]
                load.mended()
                await load.seen.until(lambda seen, goal=goal: len(seen.received) >= goal, within=60)
        stored = await _at_rest(database_url, rabbitmq_url)
    # Each post has a correlation id of its own; who it is about says of which webhook an effect is.
    versions = [(member, name, version, name) for member, name, version, _ in stored.versions]
    told = {member: name for member, name, *_ in versions}
    load.seen.arrivals = [replace(arrival, change=told.get(arrival.member, "?")) for arrival in load.seen.arrivals]
    findings = compare(load.ledger, replace(stored, versions=versions), load.seen)
    assert set(stored.taken_in) == set(names)
    await scenario.prove(findings, load, faults=WEBHOOKS * KILLED_EACH, posts=f"{WEBHOOKS * POSTS}, all answered 202")


@asynccontextmanager
async def _locked_inbox(database_url: str) -> AsyncIterator[Any]:
    """Let nobody take a message in; yields a question: whether so many sessions wait for that."""
    holder, asker = await asyncpg.connect(database_url), await asyncpg.connect(database_url)

    async def waiting(sessions: int) -> bool:
        return bool(await asker.fetchval(_WAITING) >= sessions)

    try:
        async with holder.transaction():
            await holder.execute("lock table inbox in exclusive mode")
            yield waiting
    finally:
        await holder.close()
        await asker.close()


async def _at_rest(database_url: str, rabbitmq_url: str) -> Stored:
    """What is stored once every message that was accepted has been answered for."""
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()

        async def empty() -> bool:
            waiting = [await depth(channel, name) for name in ("rollcall.webhooks", "rollcall.webhooks.retry")]
            return not any(waiting) and not (await Stored.read(database_url)).outbox

        await eventually(empty, within=60)
    return await Stored.read(database_url)


async def test_a_message_kills_every_worker_that_takes_it(scenario: Scenario, database_url: str, rabbitmq_url: str) -> None:
    """Two messages kill every worker that takes them.

    Under 40 changes a second; the worker is started anew each time it died. Both messages must be parked with their reason
    after at most 8 deaths (2 until a message is suspected, 3 alone for each), and every other change must be applied, in order.
    """
    culprits = [f"fatal-{number}" for number in range(CULPRITS)]
    deaths = 0
    async with scenario.load(database_url, rabbitmq_url, rate=40) as load, running_service(database_url, rabbitmq_url, "relay"):
        changes = [load.next_change(name) for name in culprits]
        load.ledger.to_park |= {change for change, _ in changes}
        await load.send(changes)
        async with await aio_pika.connect(rabbitmq_url) as connection:
            channel = await connection.channel()

            async def parked() -> bool:
                return await depth(channel, MEMBER_CHANGES.parked.name) >= CULPRITS

            is_parked = False
            while not is_parked:
                async with running_module(database_url, rabbitmq_url, "tests.fatal_worker", *culprits) as worker:
                    await _until(parked, or_ended=worker)
                    is_parked = await parked()
                    deaths += not is_parked
                    assert deaths <= 2 + 3 * CULPRITS
                    if is_parked:
                        load.mended()
                        await load.caught_up()
                        findings = await load.settle()
            queue = await channel.get_queue(MEMBER_CHANGES.parked.name)
            taken = [await queue.get() for _ in range(CULPRITS)]
            for message in taken:
                await message.ack()
    assert {message.message_id for message in taken} == load.ledger.to_park
    assert {message.headers[REASON_HEADER] for message in taken} == {"ended the process each of the 3 times it was handled alone"}
    await scenario.prove(findings, load, faults=deaths, parked=f"{len(taken)}, with their reason")


async def _until(condition: Any, *, or_ended: RunningService) -> None:
    async def either() -> bool:
        return or_ended.process.returncode is not None or await condition()

    await eventually(either, within=90)


@pytest.mark.parametrize("wedged", ["a handler that never ends", "a database that hangs"])
async def test_sigterm_comes_while_nothing_moves(scenario: Scenario, database_url: str, rabbitmq_url: str, wedged: str) -> None:
    """SIGTERM comes while nothing moves.

    Once with a handler that never ends and once with a database that hangs, 50 changes in hand and `SHUTDOWN_GRACE_SECONDS=5`:
    the process must be gone 10 s later at most, the 5 s more that an orchestrator gives, with status 0 and all 50 back in their
    queue. The next process applies them.
    """
    async with FaultProxy.before(database_url) as proxy, scenario.load(database_url, rabbitmq_url, rate=0) as load:
        is_handler = wedged != "a database that hangs"
        arguments = ("tests.chaos.wedged_worker",) if is_handler else ("service", "run")
        url = database_url if is_handler else proxy.url
        grace = {"SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS)}
        async with (
            running_module(url, rabbitmq_url, *arguments, **grace) as service,
            await aio_pika.connect(rabbitmq_url) as connection,
        ):
            channel = await connection.channel()
            await service.says("worker takes messages", within=60)
            if not is_handler:
                await service.says("edge takes webhooks")
                await _relays(load)
                proxy.stall()
            await load.send([load.next_change(f"in-hand-{number}") for number in range(IN_HAND)])
            await eventually(lambda: _is_empty(channel), within=30)
            before = asyncio.get_running_loop().time()
            assert await service.terminate(within=GRACE_SECONDS + MARGIN_SECONDS) == 0
            seconds = asyncio.get_running_loop().time() - before
            proxy.flow()
            assert await depth(channel, MEMBER_CHANGES.main.name) == IN_HAND
        async with running_service(database_url, rabbitmq_url, "worker", "relay") as next_one:
            await next_one.says("rollcall starts")
            load.mended()
            await load.caught_up()
            findings = await load.settle()
    await scenario.prove(findings, load, faults=1, gone_after=f"{seconds:.1f} s")


async def _relays(load: Load) -> None:
    await load.send([load.next_change("before")])
    await load.caught_up()


async def _is_empty(channel: Any) -> bool:
    return await depth(channel, MEMBER_CHANGES.main.name) == 0
