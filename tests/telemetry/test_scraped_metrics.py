"""Real processes at work, scraped as Prometheus does: what went right and wrong is in the numbers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import httpx
import pytest
from faststream.rabbit import RabbitMessage
from prometheus_client import parser

from contracts.channels import MEMBER_CHANGES
from service.clients.inbound import InboundPublisher
from service.domain.errors import Park, Unforeseen
from service.entrypoints.consumers.failures import ParkOrRetry
from service.store.database import Database
from service.telemetry.metric_names import MESSAGE_DURATION, Stage
from service.telemetry.metrics import Metrics
from tests.entrypoints.consumers.test_failures import consuming, declared
from tests.relay_rig import eventually
from tests.service_rig import RunningService, Upstream, clean_broker, publish, running_service, subscriber
from tests.webhook_rig import OTHER_SECRET, Sender, payload, write_secrets

Samples = dict[tuple[str, ...], float]


class Scrape:
    """One answer of /metrics."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [sample for family in parser.text_string_to_metric_families(text) for sample in family.samples]

    def of(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels."""
        return sum(s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items())

    @property
    def names(self) -> set[str]:
        return {sample.name for sample in self._samples}


async def scrape(service: RunningService) -> Scrape:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await service.port()}", timeout=10) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Scrape(answer.text)


async def scraped_until(service: RunningService, condition: Callable[[Scrape], bool], *, within: float = 30) -> Scrape:
    """The first scrape of which the condition holds."""
    async with asyncio.timeout(within):
        while not condition(found := await scrape(service)):
            await asyncio.sleep(0.1)
    return found


async def test_a_process_tells_what_it_did_with_every_webhook_message_change_and_event(
    database_url: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    secrets = write_secrets(tmp_path)
    async with (
        clean_broker(rabbitmq_url),
        subscriber(rabbitmq_url) as seen,
        # Without a ticker, whose messages come when they come.
        running_service(database_url, rabbitmq_url, "worker", "relay", "edge", SECRETS_DIR=str(secrets)) as service,
    ):
        upstream, sender = await Upstream.register(database_url), await Sender.register(database_url)
        await service.says("worker takes messages")
        await service.says("edge takes webhooks")
        members = [upstream.upsert(f"m{number}", 1) for number in range(10)]
        conflicting = upstream.upsert("m0", 1, name="Somebody else")
        async with InboundPublisher.connected(rabbitmq_url) as publisher:
            await publish(publisher, [*members, members[0], conflicting, b"no JSON"])
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await service.port()}", timeout=10) as client:
            body = json.dumps(payload()).encode()
            assert (await client.post(sender.path, content=body, headers=sender.headers(body))).status_code == 202
            forged = sender.headers(body, secret=OTHER_SECRET)
            assert (await client.post(sender.path, content=body, headers=forged)).status_code == 401
            assert (await client.post(f"/webhooks/{uuid4()}", content=body)).status_code == 404
            assert (await client.get(sender.path)).status_code == 405
        await seen.until(lambda now: len(now.received) == 11, within=30)
        found = await scraped_until(
            service,
            lambda now: (
                now.of("rollcall_relay_events_total", outcome="confirmed") == 11
                and now.of("rollcall_message_duration_seconds_count") == 14
                and now.of("rollcall_dependency_up") == 6
            ),
        )
    # Webhooks.
    assert found.of("rollcall_webhook_duration_seconds_count", status="202") == 1
    assert found.of("rollcall_webhook_duration_seconds_count") == 4
    assert found.of("rollcall_webhooks_refused_total") == 3
    assert found.of("rollcall_webhooks_refused_total", status="401", cause="mismatch") == 1
    assert found.of("rollcall_webhooks_refused_total", status="404", cause="unknown_connection") == 1
    # Messages: a duplicate of known content is acked, the conflicting one and the malformed one are parked.
    changes = MEMBER_CHANGES.main.name
    assert found.of("rollcall_message_duration_seconds_count", queue=changes, outcome="acked") == 11
    assert found.of("rollcall_message_duration_seconds_count", queue=changes, outcome="parked") == 2
    assert found.of("rollcall_message_duration_seconds_count", queue="rollcall.webhooks", outcome="acked") == 1
    # Changes.
    outcomes = {"applied": 11, "unchanged": 1, "conflict": 1, "stale": 0, "refused": 0, "duplicate": 0}
    assert {outcome: found.of("rollcall_changes_total", outcome=outcome) for outcome in outcomes} == outcomes
    assert found.of("rollcall_apply_batch_changes_sum") == 13
    assert found.of("rollcall_apply_duration_seconds_count", outcome="committed") == found.of("rollcall_apply_batch_changes_count")
    # Events.
    assert found.of("rollcall_relay_events_total") == 11
    assert found.of("rollcall_relay_window_messages_sum") == 11
    assert found.of("rollcall_relay_delay_seconds_count") == 11
    assert found.of("rollcall_relay_delay_seconds_sum") > 0
    assert found.of("rollcall_relay_buckets_owned") == 64
    assert found.of("rollcall_relay_lease_changes_total", change="taken") == 64
    assert found.of("rollcall_relay_lease_changes_total", change="taken_over") == 0
    # The process.
    assert found.of("rollcall_build_info") == 1
    assert {"process_resident_memory_bytes", "python_info", "python_gc_collections_total"} <= found.names
    # No id, name, address or secret of anybody.
    for value in (str(upstream.company_id), str(upstream.connection_id), sender.path, "Member m", "Somebody", "127.0.0.1", "m0"):
        assert value not in found.text


async def test_a_role_exposes_its_own_stages_and_says_what_it_waits_for(rabbitmq_url: str) -> None:
    async with running_service("postgresql://nobody@127.0.0.1:1/nothing", rabbitmq_url, "relay") as service:
        found = await scraped_until(service, lambda now: "rollcall_dependency_up" in now.names)
    assert found.of("rollcall_role_info", role="relay") == 1
    assert found.of("rollcall_dependency_up", dependency="database", used_by="relay") == 0
    assert not {name for name in found.names if name.startswith(("rollcall_webhook", "rollcall_changes", "rollcall_outbox"))}
    assert "rollcall_relay_events_total" in found.names


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url, name="test", size=2)
    yield database
    await database.close()


@asynccontextmanager
async def counted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Metrics]:
    """The metrics of every consumer that is made inside."""
    metrics, made = Metrics((Stage.MESSAGES,)), ParkOrRetry.of
    monkeypatch.setattr(ParkOrRetry, "of", lambda *given: made(*given, metrics))
    yield metrics


async def test_each_message_is_counted_once_for_each_time_that_it_was_handled(
    db: Database, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[bytes] = []

    async def handle(message: RabbitMessage) -> None:
        tries.append(message.body)
        if message.body == b"odd" and tries.count(b"odd") < 3:
            raise Unforeseen("odd")
        if message.body == b"bad":
            raise Park("bad")

    async with counted(monkeypatch) as metrics, declared(rabbitmq_url) as rig, consuming(rabbitmq_url, rig.family, db, handle):
        for body in (b"good", b"odd", b"bad"):
            await rig.send(body)
        await rig.parked()
        await eventually(lambda: len(tries) == 5, within=20)
    name = rig.family.main.name
    assert metrics.counted(MESSAGE_DURATION) == {(name, "acked"): 2, (name, "retried"): 2, (name, "parked"): 1}


async def test_a_message_that_cannot_be_copied_is_counted_as_rejected_and_one_in_hand_at_the_end_as_returned(
    db: Database, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def handle(message: RabbitMessage) -> None:
        if message.body == b"bad":
            raise Park("bad")
        begun.set()
        await asyncio.Event().wait()

    async with counted(monkeypatch) as metrics, declared(rabbitmq_url) as rig:
        async with consuming(rabbitmq_url, rig.family, db, handle) as broker:
            await rig.channel.queue_delete(rig.family.parked.name)
            await rig.send(b"bad")
            await rig.send(b"slow")
            await begun.wait()
            await eventually(lambda: bool(metrics.counted(MESSAGE_DURATION)), within=20)
            await cut(broker)
            await eventually(lambda: len(metrics.counted(MESSAGE_DURATION)) == 2, within=20)
        await rig.channel.declare_queue(rig.family.parked.name, durable=True, arguments=dict(rig.family.parked.arguments))
    name = rig.family.main.name
    assert metrics.counted(MESSAGE_DURATION).keys() == {(name, "rejected"), (name, "returned")}


async def cut(broker: Any) -> None:
    """Close the consumer's channel under it."""
    for subscriber_ in broker.subscribers:
        channel: aio_pika.abc.AbstractChannel = subscriber_._queue_obj.channel
        await channel.close()
