"""A process from its start to its drained end, with its services there, missing, and coming back."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import httpx

from contracts.channels import MEMBER_CHANGES
from deploy.local_stack import create_database, drop_database
from service.clients.inbound import InboundPublisher
from service.store.migrate import migrate
from tests.fault_proxy import FaultProxy
from tests.service_rig import Upstream, books, clean_broker, depth, publish, running_service, subscriber


async def _ready(port: int) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient() as client:
        response = await client.get(f"http://127.0.0.1:{port}/ready", timeout=10)
        return response.status_code, response.json()


async def _until_ready(port: int, status: int, *, within: float = 40) -> dict[str, Any]:
    async with asyncio.timeout(within):
        while True:
            found, body = await _ready(port)
            if found == status:
                return body
            await asyncio.sleep(0.1)


async def test_a_change_goes_all_the_way_and_sigterm_ends_the_process_with_status_0(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    async with clean_broker(rabbitmq_url), subscriber(rabbitmq_url) as seen, running_service(database_url, rabbitmq_url) as service:
        port = await service.port()
        await _until_ready(port, 200)
        async with InboundPublisher.connected(rabbitmq_url) as publisher:
            await publish(publisher, [upstream.upsert("1", 1, plan="gold"), upstream.remove("1", 2)])
        await seen.until(lambda seen: len(seen.events) == 2, within=20)
        assert [(event["previousState"], event["newState"]) for event in seen.events] == [(None, "active"), ("active", "removed")]
        assert await service.terminate() == 0
        assert service.logs[-1]["event"] == "rollcall is done"
    assert (await books(database_url)).outbox == 0


async def test_health_is_answered_before_anything_else_is_there(database_url: str, rabbitmq_url: str) -> None:
    async with (
        FaultProxy.before(database_url, refusing=True) as database,
        FaultProxy.before(rabbitmq_url, refusing=True) as broker,
        clean_broker(rabbitmq_url),
        running_service(database.url, broker.url) as service,
    ):
        port = await service.port()
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/health")).json()["status"] == "healthy"
        assert (await _ready(port))[0] == 503
        waiting = await service.says("waiting for the database")
        assert waiting["where"] == f"postgresql://{database.url.rpartition('@')[2]}"
        database.refusing = False
        await service.says("waiting for the broker")
        assert "broker" in (await _ready(port))[1]["problems"]["worker"]
        broker.refusing = False
        assert await _until_ready(port, 200) == {"status": "ready"}


async def test_sigterm_ends_a_process_that_is_still_waiting(database_url: str, rabbitmq_url: str) -> None:
    async with (
        FaultProxy.before(database_url, refusing=True) as database,
        running_service(database.url, rabbitmq_url) as service,
    ):
        await service.says("waiting for the database")
        assert await service.terminate() == 0


async def test_a_database_without_migrations_is_waited_for_and_named(postgres_url: str, rabbitmq_url: str) -> None:
    url = create_database(postgres_url)
    try:
        async with clean_broker(rabbitmq_url), running_service(url, rabbitmq_url, "worker") as service:
            waiting = await service.says("waiting for the database's migrations")
            assert "`rollcall migrate` must apply 0001_create_spine" in waiting["reason"]
            await migrate(url)
            await service.says("worker takes messages")
    finally:
        drop_database(url)


async def test_messages_are_held_while_the_database_is_away_and_applied_when_it_is_back(
    database_url: str, rabbitmq_url: str
) -> None:
    upstream = await Upstream.register(database_url)
    async with (
        FaultProxy.before(database_url) as database,
        clean_broker(rabbitmq_url) as channel,
        subscriber(rabbitmq_url) as seen,
        running_service(database.url, rabbitmq_url) as service,
        InboundPublisher.connected(rabbitmq_url) as publisher,
    ):
        port = await service.port()
        await _until_ready(port, 200)
        database.refusing = True
        database.cut()
        await publish(publisher, [upstream.upsert(str(number), 1) for number in range(50)])
        await service.says("database away, holding the messages in flight")
        assert (await _ready(port))[1]["problems"]["worker"]["database"].startswith("away")
        # Held, not sent to wait for a retry: an outage spends no attempts.
        assert await depth(channel, MEMBER_CHANGES.retry.name) == 0
        database.refusing = False
        await seen.until(lambda seen: len(seen.latest) == 50, within=40)
        await _until_ready(port, 200)
    held = await books(database_url)
    assert (held.members, held.audited, held.taken_in) == (50, 50, 50)


async def test_a_login_that_is_refused_is_an_outage_too(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    admin = await asyncpg.connect(database_url)
    role = f"worker_{uuid4().hex[:12]}"
    await admin.execute(f"create role {role} login superuser password 'worker'")
    parts = urlsplit(database_url)
    own_url = urlunsplit(parts._replace(netloc=f"{role}:worker@{parts.netloc.rpartition('@')[2]}"))
    try:
        async with (
            clean_broker(rabbitmq_url) as channel,
            running_service(own_url, rabbitmq_url, "worker") as service,
            InboundPublisher.connected(rabbitmq_url) as publisher,
        ):
            port = await service.port()
            await _until_ready(port, 200)
            await admin.execute(f"alter role {role} nologin")
            await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", role)
            assert (await _until_ready(port, 503))["problems"]["worker"]["database"].startswith("away")
            await publish(publisher, [upstream.upsert(str(number), 1) for number in range(20)])
            await service.says("database away, holding the messages in flight")
            assert await depth(channel, MEMBER_CHANGES.retry.name) == 0
            await admin.execute(f"alter role {role} login")
            await _until_ready(port, 200)
            async with asyncio.timeout(40):
                while (await books(database_url)).taken_in < 20:
                    await asyncio.sleep(0.1)
    finally:
        await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", role)
        await admin.execute(f"drop role {role}")
        await admin.close()


async def test_the_broker_gone_and_back_is_survived(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    async with (
        FaultProxy.before(rabbitmq_url) as broker,
        clean_broker(rabbitmq_url),
        subscriber(rabbitmq_url) as seen,
        running_service(database_url, broker.url) as service,
        InboundPublisher.connected(rabbitmq_url) as publisher,
    ):
        port = await service.port()
        await _until_ready(port, 200)
        broker.refusing = True
        broker.cut()
        await publish(publisher, [upstream.upsert("1", 1)])
        problems = (await _until_ready(port, 503))["problems"]
        assert set(problems) <= {"worker", "relay", "edge"}
        assert all("broker" in problem for problem in problems.values())
        broker.refusing = False
        await seen.until(lambda seen: len(seen.events) == 1, within=40)
        await _until_ready(port, 200)


async def test_a_deleted_queue_is_declared_anew_and_consumed(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    async with (
        clean_broker(rabbitmq_url) as channel,
        subscriber(rabbitmq_url) as seen,
        running_service(database_url, rabbitmq_url) as service,
    ):
        port = await service.port()
        await _until_ready(port, 200)
        await channel.queue_delete("rollcall.member-changes")
        assert (await _until_ready(port, 503))["problems"] == {"worker": {"broker": "not consuming"}}
        await service.says("the broker dropped the consumer, declaring its queue anew")
        await _until_ready(port, 200)
        async with InboundPublisher.connected(rabbitmq_url) as publisher:
            await publish(publisher, [upstream.upsert("1", 1)])
        await seen.until(lambda seen: len(seen.events) == 1, within=20)


async def test_a_broker_that_is_lost_while_a_queue_is_declared_anew_is_survived(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    async with (
        FaultProxy.before(rabbitmq_url) as broker,
        clean_broker(rabbitmq_url) as channel,
        running_service(database_url, broker.url, "worker") as service,
    ):
        port = await service.port()
        await _until_ready(port, 200)
        await channel.queue_delete("rollcall.member-changes")
        assert (await _until_ready(port, 503))["problems"] == {"worker": {"broker": "not consuming"}}
        # The other consumer cannot take its leave any more.
        broker.stall()
        await service.says("the broker dropped the consumer, declaring its queue anew")
        broker.cut()
        broker.flow()
        await _until_ready(port, 200)
        async with InboundPublisher.connected(rabbitmq_url) as publisher:
            await publish(publisher, [upstream.upsert("1", 1)])
        async with asyncio.timeout(20):
            while (await books(database_url)).members < 1:
                await asyncio.sleep(0.1)
        assert service.process.returncode is None


async def test_sigterm_ends_a_process_whose_jobs_wait_for_a_database_that_hangs(database_url: str, rabbitmq_url: str) -> None:
    locker = await asyncpg.connect(database_url)
    await locker.execute("begin; lock table members in access exclusive mode")
    try:
        async with (
            clean_broker(rabbitmq_url),
            FaultProxy.before(database_url) as database,
            running_service(database.url, rabbitmq_url, SHUTDOWN_GRACE_SECONDS="2") as service,
        ):
            await service.says("worker takes messages", within=60)
            async with asyncio.timeout(60):
                # The first slots of the clock are due at once, and what they began wants the members.
                while not await locker.fetchval("select count(*) from jobs where state = 'running'"):
                    await asyncio.sleep(0.1)
            database.stall()
            # The five seconds more that an orchestrator gives.
            assert await service.terminate(within=7) == 0
    finally:
        await locker.close()


async def test_sigterm_in_the_middle_loses_nothing(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    changes = [upstream.upsert(str(number), 1) for number in range(1500)]
    async with clean_broker(rabbitmq_url), subscriber(rabbitmq_url) as seen, InboundPublisher.connected(rabbitmq_url) as publisher:
        async with running_service(database_url, rabbitmq_url) as first:
            await _until_ready(await first.port(), 200)
            feeding = asyncio.create_task(publish(publisher, changes))
            await seen.until(lambda seen: len(seen.events) >= 200, within=30)
            assert await first.terminate() == 0
        await feeding
        interrupted = (await books(database_url)).members
        assert 200 <= interrupted < 1500
        async with running_service(database_url, rabbitmq_url) as second:
            await seen.until(lambda seen: len(seen.latest) == 1500, within=40)
            # What has arrived may not be settled yet; whoever drains settles it.
            assert await second.terminate() == 0
    assert seen.overtaken == 0
    held = await books(database_url)
    assert (held.members, held.audited, held.taken_in, held.outbox) == (1500, 1500, 1500, 0)
