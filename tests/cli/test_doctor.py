"""`rollcall doctor` with everything in order, and with one thing at a time out of it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aio_pika
import asyncpg
import pytest

from contracts.channels import MEMBER_CHANGES
from deploy.local_stack import create_database, drop_database
from service.cli import doctor
from service.clients.topology import declare_topology
from tests.cli.test_commands import Command, in_process
from tests.fault_proxy import FaultProxy
from tests.service_rig import Upstream, clean_broker, running_service


@pytest.fixture
def rollcall(database_url: str, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RABBITMQ_URL", rabbitmq_url)
    return in_process


async def test_everything_in_order(rollcall: Command, database_url: str, rabbitmq_url: str) -> None:
    async with clean_broker(rabbitmq_url), running_service(database_url, rabbitmq_url) as service:
        await service.says("worker takes messages")
        async with asyncio.timeout(30):
            while "✓ relays: 1 own all 64 buckets" not in (ended := await rollcall("doctor")).out:
                await asyncio.sleep(0.5)
    assert ended.status == 0
    assert {line[0] for line in ended.out.splitlines()} == {"✓"}, ended.out
    assert "✓ migrations: all applied" in ended.out
    assert "consumers: 1" in ended.out
    assert "\x1b" not in ended.out


async def test_nothing_runs(rollcall: Command, database_url: str, rabbitmq_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """
        insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at,
            created_at, attempts, next_attempt_at, last_error)
        select gen_random_uuid(), 'rollcall.events', 'x', 'T', 'm', 'c', '{}', '{}', now(), now() - interval '2 hours', 1, now(),
            'unroutable: NO_ROUTE'
        from generate_series(1, 3)
        """
    )
    await connection.close()
    async with clean_broker(rabbitmq_url) as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"x"), MEMBER_CHANGES.parked.name)
        ended = await rollcall("doctor")
    assert ended.status == 0
    assert re.search(r"^! outbox: 3 events wait, the oldest for 2:00:\d\d; see below for why$", ended.out, re.MULTILINE)
    for line in (
        "! outbox: 3 blocked: unroutable: NO_ROUTE; bind a queue to rollcall.events for those companies",
        "! relays: none runs: events stay in the outbox; start `rollcall run relay`",
        f"! {MEMBER_CHANGES.main.name}: 0 wait and nobody consumes; start `rollcall run worker`",
        f"! {MEMBER_CHANGES.parked.name}: 1 parked; `rollcall parked list` says why",
    ):
        assert line in ended.out.splitlines(), ended.out


async def test_missing_and_different_queues_are_told_apart_and_left_alone(rollcall: Command, rabbitmq_url: str) -> None:
    missing, different = MEMBER_CHANGES.main.name, MEMBER_CHANGES.retry.name
    async with clean_broker(rabbitmq_url) as channel:
        await channel.queue_delete(missing)
        await channel.queue_delete(different)
        await channel.declare_queue(different, durable=True)
        ended = [await rollcall("doctor"), await rollcall("doctor")]
        await channel.queue_delete(different)
        await declare_topology(channel)
    for one in ended:
        assert one.status == 1
        assert f"✗ topology: not there: {missing};" in one.out
        assert f"✗ topology: there with other arguments: {different};" in one.out


async def test_a_database_without_migrations(
    postgres_url: str, rabbitmq_url: str, rollcall: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = create_database(postgres_url)
    try:
        monkeypatch.setenv("DATABASE_URL", url)
        async with clean_broker(rabbitmq_url):
            ended = await rollcall("doctor")
    finally:
        drop_database(url)
    assert ended.status == 1
    assert "✗ migrations: `rollcall migrate` must apply 0001_create_spine" in ended.out
    assert "✓ broker:" in ended.out


async def test_neither_answers_and_no_password_is_told(
    database_url: str, rabbitmq_url: str, rollcall: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FaultProxy.before(database_url, refusing=True) as database, FaultProxy.before(rabbitmq_url, refusing=True) as broker:
        monkeypatch.setenv("DATABASE_URL", f"postgresql://rollcall:hunter2@{database.url.rpartition('@')[2]}")
        monkeypatch.setenv("RABBITMQ_URL", f"amqp://rollcall:hunter2@{broker.url.rpartition('@')[2]}")
        ended = await rollcall("doctor")
    assert ended.status == 1
    assert [line[:10] for line in ended.out.splitlines()] == ["✗ database", "✗ broker: "]
    assert "hunter2" not in ended.out + ended.err


async def test_a_clock_that_differs_is_odd(rollcall: Command, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.read_clock

    async def late(tx: doctor.Tx) -> object:
        return await real(tx) - doctor.timedelta(seconds=7)

    monkeypatch.setattr(doctor, "read_clock", late)
    async with clean_broker(rabbitmq_url):
        ended = await rollcall("doctor")
    assert ended.status == 0
    assert "! clock: this host and the database differ by 7.0 s" in ended.out


async def test_the_address_for_notifications_is_tried_where_it_is_another(
    database_url: str, rabbitmq_url: str, rollcall: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Upstream.register(database_url)
    async with clean_broker(rabbitmq_url), FaultProxy.before(database_url) as direct:
        monkeypatch.setenv("DATABASE_LISTEN_URL", direct.url)
        assert "✓ notifications:" in (await rollcall("doctor")).out
        direct.refusing = True
        ended = await rollcall("doctor")
    assert ended.status == 1
    assert "correct DATABASE_LISTEN_URL" in ended.out


async def test_every_secret_reference_is_tried_and_no_value_is_shown(
    rollcall: Command, rabbitmq_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("ROLLCALL_SECRET_BLANK", " ")
    (tmp_path / "good").write_text("hush-hush")
    (tmp_path / "no-key").write_text("hush!")
    await rollcall("companies", "add", "Choir")
    async with clean_broker(rabbitmq_url):
        assert "✓ secrets: no connection takes webhooks" in (await rollcall("doctor")).out
        add = ("connections", "add", "Choir")
        await rollcall(*add, "well", "--webhook", "github", "--secret", "file:good")
        assert "✓ secrets: 1 secret of 1 connection can be used here" in (await rollcall("doctor")).out
        await rollcall(*add, "blank", "--webhook", "github", "--secret", "env:ROLLCALL_SECRET_BLANK")
        await rollcall(*add, "unfit", "--webhook", "standard-webhooks", "--secret", "file:no-key")
        await rollcall(*add, "taken", "--webhook", "github", "--secret", "file:taken")
        await rollcall("secrets", "revoke", "Choir", "file:taken")
        ended = await rollcall("doctor")
    assert ended.status == 1
    for line in (
        "✗ secrets: Choir/blank answers 503: env:ROLLCALL_SECRET_BLANK is not set (it is blank); mend it",
        "✗ secrets: Choir/unfit answers 503: file:no-key: a secret of standard-webhooks is base64",
        "✗ secrets: Choir/taken answers 503: file:taken was revoked; `rollcall secrets grant Choir file:taken` gives it back",
    ):
        assert line in ended.out, ended.out
    assert "Choir/well" not in ended.out
    assert "hush" not in ended.out + ended.err


async def test_the_secrets_of_all_who_ask_others_are_tried(rollcall: Command, database_url: str, rabbitmq_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    company = await connection.fetchval(
        """insert into companies (name, scan_providers)
        values ('Choir', '{"breach": {"secretReference": "env:ROLLCALL_SECRET_BREACH", "domains": ["a.is"]}, "duplicates": {}}')
        returning id"""
    )
    reference = "env:ROLLCALL_SECRET_LISTS"
    await connection.execute("insert into secret_grants (company_id, reference) values ($1, $2)", company, reference)
    lists = await connection.fetchval(
        """insert into subscribers (id, company_id, name, url, state_changed_by, created_by)
        values (gen_random_uuid(), $1, 'lists', 'https://a.is', 'tests', 'tests') returning id""",
        company,
    )
    await connection.execute(
        "insert into subscriber_secrets (subscriber_id, company_id, reference) values ($1, $2, $3)", lists, company, reference
    )
    await connection.close()
    async with clean_broker(rabbitmq_url):
        lines = (await rollcall("doctor")).out.splitlines()
        granted = (await rollcall("secrets", "list")).out
    assert (
        "✗ secrets: Choir/breach (scan provider): env:ROLLCALL_SECRET_BREACH is not granted; "
        "`rollcall secrets grant Choir env:ROLLCALL_SECRET_BREACH` does that"
    ) in lines
    assert f"✗ secrets: Choir/lists (subscriber): {reference} is not set; mend it here and on every worker" in lines
    assert "subscriber lists" in granted
