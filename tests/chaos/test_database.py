"""The database restarts, ends sessions, says nothing, and keeps a writer waiting: every committed change leaves, in order."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from contracts.member_changed import MemberChangedV1
from deploy.local_stack import private_postgres
from service import translation
from service.actions.apply_changes import apply_changes
from service.store.database import Database, Tx
from service.store.migrate import migrate
from tests.chaos.load import Load
from tests.chaos.scenario import Scenario
from tests.fault_proxy import FaultProxy
from tests.service_rig import RunningService, envelope, running_service

pytestmark = pytest.mark.chaos

RESTARTS = ("fast", "immediate") * 3
ROUNDS = 40
WRITERS, HELD_CHANGES = 6, 25

_END_SESSIONS = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and application_name <> 'test'
"""


async def test_the_database_restarts_under_load(scenario: Scenario, rabbitmq_url: str) -> None:
    """PostgreSQL restarts.

    6 times, under 60 changes a second, in turn by a fast and by an immediate shutdown (which is a crash to the server: it
    recovers from its log); it stays away for up to 3 s. Between two restarts all that was accepted must have come out.
    """
    rng = scenario.rng
    with private_postgres() as server:
        await migrate(server.url)
        async with (
            scenario.load(server.url, rabbitmq_url) as load,
            running_service(server.url, rabbitmq_url, "worker"),
            running_service(server.url, rabbitmq_url, "relay"),
        ):
            for kind in RESTARTS:
                await load.delivered()
                await asyncio.to_thread(server.shut_down, immediate=kind == "immediate")
                await asyncio.sleep(rng.uniform(0, 3))
                await asyncio.to_thread(server.start)
                load.mended()
                await load.caught_up()
            findings = await load.settle()
            await scenario.prove(findings, load, faults=len(RESTARTS))


async def test_sessions_are_ended_twice_a_second(scenario: Scenario, database_url: str, rabbitmq_url: str) -> None:
    """All sessions of Rollcall are ended twice a second.

    40 times in 20 s, under 60 changes a second, by `pg_terminate_backend`: those of the worker, of the relay and of its LISTEN.
    Some of what is accepted meanwhile comes out meanwhile.
    """
    ended = 0
    async with (
        scenario.load(database_url, rabbitmq_url) as load,
        running_service(database_url, rabbitmq_url, "worker"),
        running_service(database_url, rabbitmq_url, "relay"),
    ):
        await load.delivered()
        before = len(load.seen.received)
        for _ in range(ROUNDS):
            connection = await asyncpg.connect(database_url)
            ended += len(await connection.fetch(_END_SESSIONS))
            await connection.close()
            await asyncio.sleep(0.5)
        meanwhile = len(load.seen.received) - before
        load.mended()
        await load.caught_up()
        findings = await load.settle()
    assert ended >= ROUNDS
    assert meanwhile
    await scenario.prove(findings, load, faults=ROUNDS, sessions_ended=f"{ended:,}", events_delivered_meanwhile=f"{meanwhile:,}")


async def test_notifications_do_not_come(scenario: Scenario, database_url: str, rabbitmq_url: str) -> None:
    """LISTEN hears nothing.

    Once, for as long as it takes the relay to notice and some seconds more, under 60 changes a second: a proxy on
    `DATABASE_LISTEN_URL` lets nothing through and closes nothing. The poll every half second finds the work. Then the proxy
    lets all through again, and the relay listens again.
    """
    async with (
        FaultProxy.before(database_url) as proxy,
        scenario.load(database_url, rabbitmq_url) as load,
        running_service(database_url, rabbitmq_url, "worker"),
        running_service(database_url, rabbitmq_url, "relay", DATABASE_LISTEN_URL=proxy.url) as relay,
    ):
        await load.delivered()
        await load.caught_up()
        proxy.stall()
        deaf_from = time.monotonic()
        # Said when a ping was not answered: up to 15 s later.
        await _says_of_notifications(relay, "dependency.away", 1)
        await load.delivered(300)
        silent = load.longest_wait(deaf_from)
        proxy.flow()
        load.mended()
        await _says_of_notifications(relay, "dependency.ready", 2)
        await load.caught_up()
        findings = await load.settle()
    await scenario.prove(findings, load, faults=1, longest_wait_of_a_change=f"{silent:.1f} s")


async def _says_of_notifications(relay: RunningService, event: str, times: int) -> None:
    async with asyncio.timeout(60):
        while sum(line["event"] == event and line["dependency"] == "notifications" for line in relay.logs) < times:
            await asyncio.sleep(0.1)


class HeldDatabase(Database):
    """Commits a transaction only when it is let go."""

    let_go: asyncio.Event
    written: asyncio.Event

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        async with super().transaction() as tx:
            yield tx
            self.written.set()
            await self.let_go.wait()


async def _write_late(load: Load, names: list[str], seconds: float) -> None:
    """The first change of each of these members, applied as a worker does, in a transaction that commits so much later."""
    changes = [load.next_change(name) for name in names]
    database = await HeldDatabase.connect(load.database_url, name="late writer", size=1)
    database.let_go, database.written = asyncio.Event(), asyncio.Event()
    translated = [
        translation.to_change(MemberChangedV1.from_json(json.dumps(body).encode()), envelope(change)) for change, body in changes
    ]
    try:
        applying = asyncio.create_task(apply_changes(database, translated, default_grace_days=0))
        await database.written.wait()
        await asyncio.sleep(seconds)
        for change, _ in changes:
            load.ledger.accept(change)
        database.let_go.set()
        assert [result.outcome.value for result in await applying] == ["applied"] * len(changes)
    finally:
        await database.close()


async def test_writers_commit_late(scenario: Scenario, database_url: str, rabbitmq_url: str) -> None:
    """Writers hold their transactions while others go on.

    6 writers with 25 changes each hold their transactions for 1 to 12 s, under 120 changes a second: the apply path itself, in
    a process of the tests' own, has its outbox rows written and commits late, far below what the relays have published by then.
    The members of the late changes then change once more by the usual way.
    """
    rng = scenario.rng
    async with (
        scenario.load(database_url, rabbitmq_url, rate=120) as load,
        running_service(database_url, rabbitmq_url, "worker"),
        running_service(database_url, rabbitmq_url, "relay"),
        running_service(database_url, rabbitmq_url, "relay"),
    ):
        await load.delivered()
        await load.caught_up()
        begun = time.monotonic()
        late = [[f"late-{writer}-{number}" for number in range(HELD_CHANGES)] for writer in range(WRITERS)]

        async def write_and_change_again(names: list[str]) -> None:
            await _write_late(load, names, rng.uniform(1, 12))
            load.mended()
            await load.send([load.next_change(name) for name in names])

        await asyncio.gather(*(write_and_change_again(names) for names in late))
        await load.caught_up()
        findings = await load.settle()
    await scenario.prove(findings, load, faults=WRITERS, longest_wait_of_a_change=f"{load.longest_wait(begun):.1f} s")
