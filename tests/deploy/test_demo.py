from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import aio_pika
import pytest

from contracts.channels import EVENTS, MEMBER_CHANGED, MEMBER_CHANGES, WEBHOOKS, membership_updated_routing_key
from contracts.envelope import Envelope, EnvelopeError
from contracts.member_changed import MemberChangedV1
from contracts.membership_updated import MembershipUpdatedV1
from deploy.demo.books import Books, astray, entries
from deploy.demo.evidence import Evidence, MemberRow, Parked, Stored, VhostInUse
from deploy.demo.scenario import MALFORMED, PEOPLE, SENT, Scenario, Standing, build_scenario, tally
from deploy.demo.subscriber import Subscriber
from deploy.local_stack import RabbitmqNode
from service.clients.topology import declare_topology

ROOT = Path(__file__).parents[2]
COMPANY, CONNECTION = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
DEMO_SECONDS = 170


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return build_scenario(COMPANY, CONNECTION, NOW)


@pytest.fixture
def node(own_broker: RabbitmqNode) -> RabbitmqNode:
    """A broker whose queues nobody else fills: the demo refuses any other."""
    return own_broker


class TestScenario:
    def test_is_the_same_whenever_it_is_built(self, scenario: Scenario) -> None:
        assert build_scenario(COMPANY, CONNECTION, NOW) == scenario

    def test_expects_the_same_numbers_for_other_ids_on_another_day(self, scenario: Scenario) -> None:
        other = build_scenario(uuid4(), uuid4(), NOW + timedelta(days=400, microseconds=1))
        assert other.expected == scenario.expected

    def test_has_every_message_come_to_one_end(self, scenario: Scenario) -> None:
        assert len(scenario.messages) == SENT == sum(scenario.expected.values())
        assert set(scenario.expected) == {"applied", "unchanged", "duplicate", "stale", "conflicting", "refused", "malformed"}
        assert min(scenario.expected.values()) >= 5

    def test_has_a_standing_of_every_kind_for_all_its_people(self, scenario: Scenario) -> None:
        assert len(scenario.standings) == PEOPLE
        kinds = {standing.state for standing in scenario.standings.values()}
        assert kinds == {"pending", "active", "suspended", "expired", "removed"}

    def test_sends_what_fits_the_contract_and_calls_the_rest_malformed(self, scenario: Scenario) -> None:
        unfit = 0
        for message in scenario.messages:
            try:
                Envelope.parse(message.envelope.to_headers(), message.envelope.to_properties(), MEMBER_CHANGED.message_type)
                MemberChangedV1.from_json(message.body)
            except (EnvelopeError, ValueError):
                assert message.change is None
                unfit += 1
            else:
                assert message.change is not None
        assert unfit == scenario.expected[MALFORMED]

    def test_names_nobody_who_could_exist(self, scenario: Scenario) -> None:
        assert all(standing.email.endswith("@example.org") for standing in scenario.standings.values())

    def test_has_nothing_stale_when_each_member_s_changes_come_in_their_order(self, scenario: Scenario) -> None:
        read = [(message.change, message) for message in scenario.messages if message.change is not None]
        read.sort(key=lambda pair: (not pair[0].external_id.startswith("m-"), pair[0].version))
        assert "stale" not in tally([message for _, message in read])


EXPECTED = {"applied": 6, "unchanged": 1, "duplicate": 2, "stale": 1, "conflicting": 1, "malformed": 1}
BALANCED = Books(
    sent=12,
    stored=Stored(inbox=8, audited=6, outbox=0),
    parked=(Parked("conflicting", "1", "conflict: …"), Parked("malformed", "2", "version: required")),
    duplicate=2,
    stale=1,
    delivered=6,
    repeats=3,
    out_of_order=0,
    astray=0,
    members=4,
)


def wrong(books: Books, expected: dict[str, int] | None = None) -> dict[str, int]:
    return {entry.name: entry.found for entry in entries(books, expected or EXPECTED, 4) if not entry.balances}


class TestBooks:
    def test_balance_when_all_is_as_expected(self) -> None:
        assert wrong(BALANCED) == {}

    def test_do_not_balance_against_another_expectation(self) -> None:
        assert wrong(BALANCED, EXPECTED | {"stale": 2, "unchanged": 0}) == {"stale": 1, "unchanged": 1}

    def test_call_an_applied_change_without_its_event_lost(self) -> None:
        assert wrong(replace(BALANCED, delivered=5)) == {"delivered": 5, "lost": 1}

    def test_call_a_message_that_is_nowhere_lost(self) -> None:
        assert wrong(replace(BALANCED, parked=BALANCED.parked[:1])) == {"malformed": 0, "lost": 1}

    def test_do_not_balance_with_an_event_left_in_the_outbox(self) -> None:
        assert wrong(replace(BALANCED, stored=Stored(inbox=8, audited=6, outbox=1))) == {"published": 5}

    def test_do_not_balance_when_something_was_refused_that_nobody_expected(self) -> None:
        parked = (*BALANCED.parked, Parked("refused", "3", "refused: …"))
        assert wrong(replace(BALANCED, parked=parked, sent=13))["refused"] == 1

    @pytest.mark.parametrize("name", ["out_of_order", "astray"])
    def test_do_not_balance_with_a_single_event_or_member_out_of_place(self, name: str) -> None:
        assert list(wrong(replace(BALANCED, **{name: 1})).values()) == [1]


def event(version: int, state: str = "active", member: int = 7) -> MembershipUpdatedV1:
    body = {
        "memberId": str(UUID(int=member)),
        "companyId": str(COMPANY),
        "connectionId": str(CONNECTION),
        "externalId": f"m-{member}",
        "previousState": None if version == 1 else "active",
        "newState": state,
        "reasonCode": "UPSTREAM_CHANGE",
        "changedFields": ["state"],
        "plan": "basic",
        "startsAt": None,
        "expiresAt": None,
        "version": version,
        "occurredAt": "2026-11-03T12:00:00Z",
    }
    return MembershipUpdatedV1.from_json(json.dumps(body))


class TestSubscriber:
    def test_drops_what_is_not_newer(self) -> None:
        subscriber = Subscriber()
        for version in (1, 2, 1, 2, 3):
            subscriber.take(event(version))
        assert (subscriber.delivered, subscriber.repeats, subscriber.out_of_order) == (3, 2, 0)
        assert subscriber.latest["m-7"].version == 3

    def test_counts_a_version_that_is_not_the_next_as_out_of_order(self) -> None:
        subscriber = Subscriber()
        for version in (1, 3, 2):
            subscriber.take(event(version))
        assert (subscriber.delivered, subscriber.repeats, subscriber.out_of_order) == (2, 1, 1)

    def test_keeps_members_apart(self) -> None:
        subscriber = Subscriber()
        subscriber.take(event(1))
        subscriber.take(event(1, member=8))
        assert (subscriber.delivered, subscriber.repeats) == (2, 0)


class TestAstray:
    must = Standing("Ada", "ada@example.org", "suspended", "basic", None)
    row = MemberRow("m-7", "Ada", "ada@example.org", "suspended", "basic", None, 2)

    def listener(self, state: str = "suspended") -> Subscriber:
        subscriber = Subscriber()
        subscriber.take(event(1, state))
        return subscriber

    def test_is_nobody_whom_row_and_event_tell_as_the_source_does(self) -> None:
        assert astray([self.row], self.listener(), {"m-7": self.must}) == 0

    def test_is_who_differs_in_the_database(self) -> None:
        assert astray([replace(self.row, plan="plus")], self.listener(), {"m-7": self.must}) == 1

    def test_is_who_differs_in_the_events(self) -> None:
        assert astray([self.row], self.listener("active"), {"m-7": self.must}) == 1

    def test_is_who_is_missing_and_who_should_not_be_there(self) -> None:
        stranger = replace(self.row, external_id="m-9")
        assert astray([stranger], self.listener(), {"m-7": self.must}) == 2


def environment(**values: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
    return {**inherited, "PYTHONPATH": str(ROOT), **values}


async def queue_lengths(url: str) -> list[int]:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queues = [*MEMBER_CHANGES.queues, *WEBHOOKS.queues]
        declared = [await channel.declare_queue(queue.name, passive=True) for queue in queues]
        return [queue.declaration_result.message_count or 0 for queue in declared]


async def test_demo_balances_in_a_pipe_and_leaves_nothing_behind(node: RabbitmqNode, postgres_url: str) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "service", "demo"],
        env=environment(DATABASE_URL=postgres_url, RABBITMQ_URL=node.url),
        stdin=subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        timeout=DEMO_SECONDS,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert "lost 0, out of order 0" in done.stdout
    assert re.search(r"sent +2,000", done.stdout)
    assert re.search(r"lost +0 ", done.stdout)
    assert "2,000 of 2,000 changes settled" in done.stdout
    assert "200 of 200 webhooks answered, 150 accepted, 120 events delivered" in done.stdout
    assert re.search(r"posted +200 ", done.stdout)
    assert re.search(r"refused 413 +12 ", done.stdout)
    assert re.search(r"held back +3,100 ", done.stdout)
    assert "@@ updated: 1 @@" in done.stdout
    assert re.search(r"slots +4 ", done.stdout)
    assert "100 ticks at once" in done.stdout
    assert re.search(r"notified +80 ", done.stdout)
    assert "told once: DRIFT_PROMOTED" in done.stdout
    assert re.search(r"healed +20 ", done.stdout)
    assert len(done.stdout.splitlines()) < 200
    assert await queue_lengths(node.url) == [0] * 6


async def test_demo_ends_at_ctrl_c_and_empties_its_queues(node: RabbitmqNode, postgres_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service",
        "demo",
        env=environment(DATABASE_URL=postgres_url, RABBITMQ_URL=node.url, PYTHONUNBUFFERED="1"),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(DEMO_SECONDS):
        said = b""
        while b"Sending" not in said:
            line = await process.stdout.readline()
            assert line, said
            said += line
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (130, b"")
    assert await queue_lengths(node.url) == [0] * 6


async def test_demo_refuses_a_vhost_with_messages_of_others(node: RabbitmqNode, database_url: str) -> None:
    async with await aio_pika.connect(node.url) as connection:
        channel = await connection.channel()
        await declare_topology(channel)
        queue = MEMBER_CHANGES.parked.name
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), queue)
        async with Evidence.connected(database_url, node.url) as evidence:
            with pytest.raises(VhostInUse, match=f"{queue} is in use: 1 waiting, 0 consumers"):
                await evidence.check_vhost_is_idle()
            await evidence.purge()
            await evidence.check_vhost_is_idle()


async def test_consumer_of_the_docs_ignores_a_repeat(node: RabbitmqNode) -> None:
    async with await aio_pika.connect(node.url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(EVENTS.name, EVENTS.kind, durable=EVENTS.durable)
        consumer = await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / "docs" / "consumer.py"),
            env=environment(RABBITMQ_URL=node.url, PYTHONUNBUFFERED="1"),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
        )
        try:
            async with asyncio.timeout(60):
                await until_consumed(connection)
                for version in (1, 2, 1, 2, 3):
                    body = aio_pika.Message(event(version).to_json())
                    await exchange.publish(body, membership_updated_routing_key(COMPANY))
                assert consumer.stderr is not None
                lines = [(await consumer.stderr.readline()).decode().strip() for _ in range(3)]
        finally:
            consumer.terminate()
            await consumer.wait()
            await (await connection.channel()).queue_delete("my-system.members")
    assert lines == [f"m-7 is active (version {version})" for version in (1, 2, 3)]


async def until_consumed(connection: aio_pika.abc.AbstractConnection) -> None:
    """Until the consumer's queue is there and has it; a look for a queue that is missing costs its channel."""
    while True:
        channel = await connection.channel()
        try:
            queue = await channel.declare_queue("my-system.members", passive=True)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            await asyncio.sleep(0.1)
            continue
        if queue.declaration_result.consumer_count:
            return
        await channel.close()
        await asyncio.sleep(0.1)
