"""The member-change consumer on a real broker: what is acked, parked and sent to wait for its retry."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aio_pika
import asyncpg
import pytest
from pamqp import encode

from contracts.channels import MEMBER_CHANGED, MEMBER_CHANGES
from contracts.envelope import Envelope
from service.actions.group_commit import GroupCommit
from service.clients.inbound import InboundPublisher, NotDeliveredError
from service.domain.outcome import Outcome
from service.entrypoints.consumers.failures import REASON_HEADER
from service.settings import load_settings
from service.wiring.worker import Worker
from tests.service_rig import Upstream, books, clean_broker, depth, envelope

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Rig:
    """A worker at work, and a source that publishes to it."""

    def __init__(self, worker: Worker, publisher: InboundPublisher, channel: Any, upstream: Upstream, database_url: str) -> None:
        self.worker, self.publisher, self.channel, self.upstream = worker, publisher, channel, upstream
        self.database_url = database_url

    async def send(self, body: dict[str, Any] | bytes, sent_as: Envelope | None = None) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.publisher.publish(MEMBER_CHANGED, sent_as or envelope(), raw)

    async def send_raw(self, body: bytes, **message: Any) -> None:
        exchange = await self.channel.get_exchange("rollcall.inbound", ensure=False)
        await exchange.publish(aio_pika.Message(body, **message), "member.changed")

    async def parked(self, *, within: float = 15) -> Any:
        """The next parked message, as soon as it is there."""
        queue = await self.channel.get_queue(MEMBER_CHANGES.parked.name)
        async with asyncio.timeout(within):
            while (message := await queue.get(fail=False)) is None:
                await asyncio.sleep(0.05)
        await message.ack()
        return message

    async def until_depth(self, queue: str, expected: int, *, within: float = 15) -> None:
        async with asyncio.timeout(within):
            while await depth(self.channel, queue) != expected:
                await asyncio.sleep(0.05)

    async def until_taken_in(self, count: int, *, within: float = 15) -> None:
        async with asyncio.timeout(within):
            while (await books(self.database_url)).taken_in < count:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def working(database_url: str, rabbitmq_url: str) -> AsyncIterator[Rig]:
    settings = load_settings(database_url=database_url, rabbitmq_url=rabbitmq_url, shutdown_grace_seconds=5)
    upstream = await Upstream.register(database_url)
    async with clean_broker(rabbitmq_url) as channel, InboundPublisher.connected(rabbitmq_url) as publisher:
        worker = Worker(settings)
        await worker.start()
        try:
            yield Rig(worker, publisher, channel, upstream, database_url)
        finally:
            await worker.stop()


async def test_an_applied_change_is_acked_and_leaves_its_trace_with_its_event(database_url: str, rabbitmq_url: str) -> None:
    async with working(database_url, rabbitmq_url) as rig:
        sent = replace(envelope(), traceparent=TRACEPARENT, correlation_id="run 7")
        await rig.send(rig.upstream.upsert("1", 1), sent)
        await rig.until_taken_in(1)
        await rig.until_depth(MEMBER_CHANGES.main.name, 0)
        assert rig.worker.outcomes == {Outcome.APPLIED: 1}
        assert await depth(rig.channel, MEMBER_CHANGES.parked.name) == 0
    connection = await asyncpg.connect(database_url)
    row = await connection.fetchrow("select headers::text, correlation_id from outbox")
    audit = await connection.fetchrow("select traceparent, correlation_id, actor from member_events")
    await connection.close()
    assert json.loads(row["headers"])["traceparent"] == TRACEPARENT == audit["traceparent"]
    assert row["correlation_id"] == audit["correlation_id"] == "run 7"
    assert audit["actor"] == f"connection:{rig.upstream.connection_id}"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{not json", "not valid JSON"),
        (b"[]", "must be an object"),
        (b'{"companyId": 1}', "companyId: must be a string; connectionId: required"),
        (b"\xff\xfe", "not valid JSON"),
    ],
)
async def test_what_does_not_fit_its_contract_is_parked_at_its_first_delivery(
    body: bytes, reason: str, database_url: str, rabbitmq_url: str
) -> None:
    async with working(database_url, rabbitmq_url) as rig:
        sent = envelope()
        await rig.send(body, sent)
        parked = await rig.parked()
        assert parked.body == body
        assert parked.headers[REASON_HEADER].startswith(reason)
        assert parked.headers["x-rollcall-queue"] == MEMBER_CHANGES.main.name
        assert parked.headers["ce-id"] == sent.id == parked.message_id
        assert "x-death" not in parked.headers
        assert parked.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
        assert await depth(rig.channel, MEMBER_CHANGES.main.name) == 0


async def test_a_message_without_an_envelope_is_parked(database_url: str, rabbitmq_url: str) -> None:
    async with working(database_url, rabbitmq_url) as rig:
        await rig.send_raw(b"{}", headers={"colour": "green"}, message_id="7")
        parked = await rig.parked()
        assert parked.headers[REASON_HEADER].startswith("not a CloudEvent in binary mode: missing ce-id")
        assert parked.headers["colour"] == "green"


async def test_a_timestamp_out_of_range_harms_no_neighbour(
    database_url: str, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nanoseconds, a common mistake: the client library's own decoder ends the connection over them, twenty times."""
    nanoseconds = struct.pack(">Q", 1_780_000_000 * 10**9)
    async with working(database_url, rabbitmq_url) as rig:
        for number in range(60):
            body = json.dumps(rig.upstream.upsert(str(number), 1)).encode()
            with monkeypatch.context() as patched:
                if number == 30:
                    patched.setitem(encode.METHODS, "timestamp", lambda _: nanoseconds)
                await rig.send_raw(body, headers=envelope().to_headers(), timestamp=datetime.now(UTC))
        await rig.until_taken_in(60)
        await rig.until_depth(MEMBER_CHANGES.main.name, 0)
        assert await depth(rig.channel, MEMBER_CHANGES.parked.name) == 0


async def test_the_reason_never_quotes_the_message(database_url: str, rabbitmq_url: str) -> None:
    async with working(database_url, rabbitmq_url) as rig:
        body = rig.upstream.upsert("1", 1, email="ada.lovelace@example.org", nationalId=10203, phone=["+3545812345"])
        body["updatedAt"] = "ada was here"
        await rig.send(body)
        reason = (await rig.parked()).headers[REASON_HEADER]
        assert "nationalId" in reason
        assert "phone" in reason
        assert "updatedAt" in reason
        assert not any(secret in reason for secret in ("ada", "10203", "354"))


async def test_a_conflict_is_parked_and_takes_effect_when_sent_again_after_the_cause_is_mended(
    database_url: str, rabbitmq_url: str
) -> None:
    async with working(database_url, rabbitmq_url) as rig:
        await rig.send(rig.upstream.upsert("1", 1, nationalId="010203-1234"))
        await rig.until_taken_in(1)
        rejoined = rig.upstream.upsert("2", 1, nationalId="0102031234")
        await rig.send(rejoined, envelope("rejoined"))
        parked = await rig.parked()
        assert parked.headers[REASON_HEADER].startswith("conflict: the national id belongs to another key of this connection")
        assert (await books(database_url)).taken_in == 1
        await rig.send(rig.upstream.upsert("1", 2, nationalId=None))
        await rig.until_taken_in(2)
        await rig.send(parked.body, envelope("rejoined"))
        await rig.until_taken_in(3)
        assert rig.worker.outcomes == {Outcome.APPLIED: 3, Outcome.CONFLICT: 1}


async def test_a_change_of_an_unknown_connection_is_parked(database_url: str, rabbitmq_url: str) -> None:
    async with working(database_url, rabbitmq_url) as rig:
        await rig.send(rig.upstream.upsert("1", 1) | {"connectionId": "00000000-0000-4000-8000-000000000000"})
        assert (await rig.parked()).headers[REASON_HEADER] == "refused: the company has no such connection"


async def test_an_unexpected_failure_waits_in_the_retry_queue_and_names_no_value(
    database_url: str, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ada@example.org")

    async with working(database_url, rabbitmq_url) as rig:
        monkeypatch.setattr(GroupCommit, "submit", fail)
        await rig.send(rig.upstream.upsert("1", 1))
        await rig.until_depth(MEMBER_CHANGES.retry.name, 1)
        assert await depth(rig.channel, MEMBER_CHANGES.parked.name) == 0
        exhausted = {"x-rollcall-attempts": 10}
        await rig.send_raw(json.dumps(rig.upstream.upsert("2", 1)).encode(), headers={**envelope().to_headers(), **exhausted})
        assert (await rig.parked()).headers[REASON_HEADER] == "failed 11 times, last: ZeroDivisionError"
        monkeypatch.undo()


async def test_the_same_message_many_times_at_once_has_one_effect(database_url: str, rabbitmq_url: str) -> None:
    async with working(database_url, rabbitmq_url) as rig:
        once = envelope("once")
        await asyncio.gather(*(rig.send(rig.upstream.upsert("1", 1), once) for _ in range(50)))
        await rig.until_depth(MEMBER_CHANGES.main.name, 0)
        async with asyncio.timeout(15):
            while sum(rig.worker.outcomes.values()) < 50:
                await asyncio.sleep(0.05)
        assert rig.worker.outcomes == {Outcome.APPLIED: 1, Outcome.DUPLICATE: 49}
    held = await books(database_url)
    assert (held.members, held.audited, held.taken_in, held.outbox) == (1, 1, 1, 1)


async def test_an_unroutable_change_is_an_error_for_its_sender(rabbitmq_url: str) -> None:
    async with clean_broker(rabbitmq_url), InboundPublisher.connected(rabbitmq_url) as publisher:
        with pytest.raises(NotDeliveredError, match="no queue took it"):
            await publisher.publish(MEMBER_CHANGED, envelope(), b"{}", routing_key="nobody.listens")
