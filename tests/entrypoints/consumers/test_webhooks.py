"""The webhook consumer on a real broker: what is applied, ignored, parked and held."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import asyncpg
import pytest

from contracts.channels import WEBHOOK_RECEIVED, WEBHOOKS
from contracts.envelope import Envelope
from contracts.webhook_received import WebhookReceivedV1
from service import translation
from service.clients.inbound import InboundPublisher
from service.settings import load_settings
from service.wiring.worker import Worker
from tests.cli.test_commands import in_process
from tests.fault_proxy import FaultProxy
from tests.relay_rig import eventually
from tests.service_rig import depth
from tests.webhook_rig import Sender, empty, payload

MAPPING = {"externalId": "data.key", "action": "kind", "actions": {"noise": "ignore"}, "member": {"name": "data.name"}}


class Rig:
    def __init__(self, worker: Worker, publisher: InboundPublisher, channel: Any) -> None:
        self.worker, self.publisher, self.channel = worker, publisher, channel

    async def send(
        self, sender: Sender, body: str | dict[str, Any], key: str | None = None, connection: UUID | None = None
    ) -> None:
        received = WebhookReceivedV1(
            company_id=sender.company_id,
            connection_id=connection or sender.connection_id,
            dedupe_key=str(uuid4()),
            received_at=datetime.now(UTC),
            content_type="application/json",
            body=body if isinstance(body, str) else json.dumps(body),
        )
        message = translation.to_webhook_received(received, correlation_id="run 7", trace={})
        envelope = Envelope.parse(message.headers, _Properties, WEBHOOK_RECEIVED.message_type)
        await self.publisher.publish(WEBHOOK_RECEIVED, envelope, message.body.encode(), routing_key=message.routing_key)

    async def parked_reason(self) -> str:
        queue = await self.channel.get_queue(WEBHOOKS.parked.name)
        async with asyncio.timeout(15):
            while (message := await queue.get(fail=False)) is None:
                await asyncio.sleep(0.05)
        await message.ack()
        return str(message.headers["x-rollcall-reason"])


class _Properties:
    content_type, timestamp, correlation_id = "application/json", None, "run 7"


@asynccontextmanager
async def working(database_url: str, rabbitmq_url: str) -> AsyncIterator[Rig]:
    await empty(rabbitmq_url)
    worker = Worker(load_settings(database_url=database_url, rabbitmq_url=rabbitmq_url, shutdown_grace_seconds=5))
    connection = await aio_pika.connect(rabbitmq_url)
    async with connection, InboundPublisher.connected(rabbitmq_url) as publisher:
        await worker.start()
        try:
            yield Rig(worker, publisher, await connection.channel())
        finally:
            await worker.stop()
    await empty(rabbitmq_url)


async def test_a_webhook_becomes_a_change_of_its_member(database_url: str, rabbitmq_url: str) -> None:
    sender = await Sender.register(database_url)
    async with working(database_url, rabbitmq_url) as rig:
        await rig.send(sender, payload("ada", kennitala="010101-1234"))
        await rig.send(sender, payload("ada", updated_at="2026-11-02T00:00:00Z", action="delete"))
        await rig.send(sender, payload("ada", updated_at="2026-10-01T00:00:00Z"))
        await eventually(lambda: sum(rig.worker.outcomes.values()) == 3, within=15)
        assert rig.worker.outcomes == {"applied": 2, "stale": 1}
    connection = await asyncpg.connect(database_url)
    row = await connection.fetchrow("select external_id, national_id, state, version from members")
    events = await connection.fetch("select actor, correlation_id, reason_code from member_events order by version")
    await connection.close()
    assert tuple(row) == ("ada", "0101011234", "removed", 2)
    assert [tuple(event) for event in events] == [(f"connection:{sender.connection_id}", "run 7", "UPSTREAM_CHANGE")] * 2


async def test_a_connection_has_a_mapping_of_its_own(database_url: str, rabbitmq_url: str) -> None:
    sender = await Sender.register(database_url, mapping=MAPPING | {"actions": {"noise": "ignore", "news": "upsert"}})
    async with working(database_url, rabbitmq_url) as rig:
        await rig.send(sender, {"kind": "noise"})
        await rig.send(sender, {"kind": "news", "data": {"key": 42, "name": "Ada"}})
        await eventually(lambda: rig.worker.outcomes.get("applied") == 1, within=15)
    connection = await asyncpg.connect(database_url)
    assert tuple(await connection.fetchrow("select external_id, name from members")) == ("42", "Ada")
    assert await connection.fetchval("select count(*) from inbox") == 1
    await connection.close()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[]", "the webhook is no JSON object"),
        ("{no", "the webhook is no JSON"),
        (payload(action="explode"), "action: an action that the mapping does not know"),
        (payload(email="ada@example.org" * 30), "member.email: string too long (max 320)"),
        (payload(state="dead"), "member.state: must be 'pending', 'active' or 'suspended'"),
        ({"id": "new", "action": "update", "updated_at": "2026-11-01T00:00:00Z"}, "refused: a new member needs a name"),
    ],
)
async def test_what_cannot_be_mapped_or_applied_is_parked_with_a_reason_that_quotes_nothing(
    body: Any, reason: str, database_url: str, rabbitmq_url: str
) -> None:
    sender = await Sender.register(database_url)
    async with working(database_url, rabbitmq_url) as rig:
        await rig.send(sender, body)
        assert await rig.parked_reason() == reason


async def test_a_connection_that_takes_no_webhooks_and_a_mapping_that_was_broken_are_parked(
    database_url: str, rabbitmq_url: str
) -> None:
    sender = await Sender.register(database_url)
    connection = await asyncpg.connect(database_url)
    await connection.execute("""update webhooks set mapping = '{"colour": 1}'""")
    await connection.close()
    async with working(database_url, rabbitmq_url) as rig:
        await rig.send(sender, payload(), connection=uuid4())
        assert await rig.parked_reason() == "refused: the connection takes no webhooks"
        await rig.send(sender, payload())
        assert (await rig.parked_reason()).startswith("the connection's mapping does not fit: unknown: colour")


async def test_webhooks_are_held_while_the_database_is_away(database_url: str, rabbitmq_url: str) -> None:
    sender = await Sender.register(database_url)
    async with FaultProxy.before(database_url) as proxy, working(proxy.url, rabbitmq_url) as rig:
        proxy.refusing = True
        proxy.cut()
        for number in range(10):
            await rig.send(sender, payload(f"m{number}"))
        await asyncio.sleep(1)
        assert "database" in await rig.worker.problems()
        assert rig.worker.outcomes == {}
        proxy.refusing = False
        await eventually(lambda: rig.worker.outcomes.get("applied") == 10, within=20)
        assert await rig.worker.problems() == {}


async def test_a_parked_webhook_takes_effect_when_it_is_replayed_after_its_mapping_was_mended(
    database_url: str, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RABBITMQ_URL", rabbitmq_url)
    sender = await Sender.register(database_url, mapping={"externalId": "id", "member": {"name": "title"}})
    async with working(database_url, rabbitmq_url) as rig:
        rig.worker._mappings._fresh = 0.05
        await rig.send(sender, payload("ada"))
        await rig.send(sender, payload("bob"))

        async def parked() -> bool:
            return await depth(rig.channel, WEBHOOKS.parked.name) == 2

        await eventually(parked, within=20)
        await fetch(database_url, """update webhooks set mapping = '{"externalId": "id", "member": {"name": "name"}}'""")
        # Until what the worker knew of it is old.
        await asyncio.sleep(0.1)
        assert "replayed 2" in (await in_process("parked", "replay", "--reason", "needs a name", "--yes")).out.splitlines()
        await eventually(lambda: rig.worker.outcomes.get("applied") == 2, within=20)
    members = await fetch(database_url, "select external_id, name, version from members order by 1")
    assert members == [("ada", "Member ada", 1), ("bob", "Member bob", 1)]


async def fetch(database_url: str, sql: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()
