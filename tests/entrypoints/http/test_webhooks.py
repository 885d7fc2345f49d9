"""The webhook door over real HTTP, broker and database: each answer, and what reached the queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import CapturingLogger

from contracts.channels import WEBHOOK_RECEIVED
from contracts.envelope import Envelope
from contracts.webhook_received import WebhookReceivedV1
from service.domain.webhooks.schemes import SchemeName
from service.entrypoints.http import webhooks
from tests.webhook_rig import JSON, OTHER_SECRET, Door, Sender, open_door, payload

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SLACK = {
    "header": "X-Slack-Signature",
    "prefix": "v0=",
    "content": "v0:{timestamp}:{body}",
    "timestampHeader": "X-Slack-Request-Timestamp",
}


@pytest.fixture
async def door(database_url: str, rabbitmq_url: str, tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(database_url, rabbitmq_url, tmp_path) as opened:
        yield opened


@pytest.fixture
async def sender(database_url: str) -> Sender:
    return await Sender.register(database_url)


async def test_a_signed_webhook_is_in_the_queue_when_it_is_accepted(door: Door, sender: Sender) -> None:
    body = b'{ "id": "ada", "name": "\xc3\x81da" }\n'
    headers = sender.headers(body, message_id="msg_7") | {"traceparent": TRACEPARENT, "tracestate": "a=1"}
    answer = await door.post(sender, body, headers)
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
    (message,) = await door.messages(1)
    received = WebhookReceivedV1.from_json(message.body)
    assert received.body.encode() == body
    assert (received.company_id, received.connection_id) == (sender.company_id, sender.connection_id)
    assert (received.dedupe_key, received.content_type) == ("msg_7", "application/json")
    assert abs(received.received_at - datetime.now(UTC)) < timedelta(seconds=10)
    envelope = Envelope.parse(message.headers, message, WEBHOOK_RECEIVED.message_type)
    assert (envelope.id, envelope.traceparent, envelope.tracestate) == ("msg_7", TRACEPARENT, "a=1")
    assert (message.routing_key, message.delivery_mode) == (f"webhook.{sender.connection_id}", 2)


@pytest.mark.parametrize("name", [*SchemeName])
async def test_every_scheme_is_taken_and_a_forgery_of_it_is_not(door: Door, database_url: str, name: SchemeName) -> None:
    sender = await Sender.register(database_url, name, settings=SLACK if name is SchemeName.HMAC else None)
    body = json.dumps({"id": "evt_1", "action": "ping"}).encode()
    headers = sender.headers(body)
    assert (await door.post(sender, body, headers)).status_code == 202
    assert (await door.post(sender, body.replace(b"1", b"2"), headers)).status_code == 401
    assert (await door.post(sender, body, sender.headers(body, secret=OTHER_SECRET))).status_code == 401
    assert (await door.post(sender, body, JSON)).status_code == 401
    await door.messages(1)


async def test_what_is_refused_again_and_again_is_logged_once_for_each_reason(
    door: Door, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_log", log := CapturingLogger())
    for headers in (JSON, JSON, sender.headers(b"other"), JSON):
        assert (await door.post(sender, b"{}", headers)).status_code == 401
    said = {"connection": str(sender.connection_id), "webhooks": 1}
    assert [(call.args, call.kwargs) for call in log.calls] == [
        (("webhook refused",), said | {"reason": reason}) for reason in ("no_signature", "mismatch")
    ]


async def test_every_refused_signature_gets_the_same_answer_and_its_cause_is_counted(door: Door, sender: Sender) -> None:
    body = b"{}"
    good = sender.headers(body)
    old = sender.headers(body, at=datetime.now(UTC) - timedelta(minutes=6))
    forgeries = [JSON, old, good | {"webhook-signature": "v1,junk"}, good | {"webhook-timestamp": "now"}]
    answers = [await door.post(sender, body, headers) for headers in forgeries]
    assert {(answer.status_code, answer.content) for answer in answers} == {(401, answers[0].content)}
    assert (
        # Each has its own id, which tells nothing of the cause.
        len({tuple(sorted(dict(answer.headers, **{"date": "", "x-correlation-id": ""}).items())) for answer in answers}) == 1
    )
    assert answers[0].headers["www-authenticate"]
    causes = ("no_signature", "outside_tolerance", "mismatch", "malformed_timestamp")
    assert door.refused() == {("401", cause): 1 for cause in causes}
    await door.messages(0)


async def test_while_secrets_rotate_both_are_taken(door: Door, database_url: str) -> None:
    sender = await Sender.register(database_url, references=("file:next", "file:current"))
    door.forgets_after(0.3)
    assert (await door.post(sender, payload())).status_code == 202
    assert (await door.post(sender, payload(), secret=OTHER_SECRET)).status_code == 202
    connection = await asyncpg.connect(database_url)
    await connection.execute("update webhook_secrets set not_after = now() where reference = 'file:current'")
    await connection.close()
    await asyncio.sleep(0.4)
    assert (await door.post(sender, payload())).status_code == 401
    assert (await door.post(sender, payload(), secret=OTHER_SECRET)).status_code == 202
    await door.messages(3)


async def test_the_answers_are_problem_details_in_the_order_of_the_checks(door: Door, sender: Sender) -> None:
    unknown = "/webhooks/00000000-0000-4000-8000-000000000000"
    large = b"[" + b" " * 1024 * 1024 + b"]"
    answers = [
        (405, await door.client.get(unknown)),
        (405, await door.client.put(sender.path, content=large)),
        (404, await door.client.post(unknown, content=large)),
        (404, await door.client.post("/webhooks/7", content=b"{}")),
        (404, await door.client.post(f"{sender.path}/more", content=b"{}")),
        (413, await door.client.post(sender.path, content=large, headers={"content-type": "text/plain"})),
        (415, await door.client.post(sender.path, content=b"{}", headers={"content-type": "text/plain"})),
        (415, await door.client.post(sender.path, content=b"{}")),
        (415, await door.client.post(sender.path, content=b"{}", headers=JSON | {"content-encoding": "gzip"})),
        (401, await door.client.post(sender.path, content=b"no json", headers=JSON)),
        (400, await door.post(sender, b"no json")),
    ]
    for expected, answer in answers:
        assert answer.status_code == expected
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == expected
        assert answer.json()["title"]
    assert answers[0][1].headers["allow"] == "POST"
    await door.messages(0)


NO_OBJECTS = [
    b"",
    b"[]",
    b'"text"',
    b"1",
    b"null",
    b"{",
    b'{"a": NaN}',
    b'{"a":1,}',
    b"{'a':1}",
    b'{"a":"\xff"}',
    b"\xef\xbb\xbf{}",
]


async def test_what_is_signed_but_no_json_object_is_a_bad_request(door: Door, sender: Sender) -> None:
    assert [(await door.post(sender, body)).status_code for body in NO_OBJECTS] == [400] * len(NO_OBJECTS)
    await door.messages(0)


async def test_a_body_of_exactly_a_mebibyte_is_taken_and_one_byte_more_is_not(door: Door, sender: Sender) -> None:
    body = b'{"a":"' + b"x" * (1024 * 1024 - 8) + b'"}'
    assert len(body) == 1024 * 1024
    assert (await door.post(sender, body)).status_code == 202
    assert (await door.post(sender, body + b" ")).status_code == 413
    (message,) = await door.messages(1)
    assert WebhookReceivedV1.from_json(message.body).body.encode() == body


async def test_an_unverified_trace_context_is_ignored_and_a_broken_one_does_no_harm(door: Door, sender: Sender) -> None:
    body = b"{}"
    for broken in ("junk", "00-0-0-0", "\u00e9"):
        headers = {name.encode(): value.encode("latin-1") for name, value in sender.headers(body).items()}
        answer = await door.client.post(sender.path, content=body, headers=headers | {b"traceparent": broken.encode("latin-1")})
        assert answer.status_code == 202
    assert [message.headers.get("traceparent") for message in await door.messages(3)] == [None] * 3


async def test_a_source_over_its_rate_is_told_to_wait_and_comes_through_later(door: Door, database_url: str) -> None:
    sender = await Sender.register(database_url, rate_per_second=5)
    answers = await asyncio.gather(*(door.post(sender, payload()) for _ in range(20)))
    taken = sum(answer.status_code == 202 for answer in answers)
    assert {answer.status_code for answer in answers} == {202, 429}
    assert 10 <= taken <= 13
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 429)
    await asyncio.sleep(1.1)
    assert (await door.post(sender, payload())).status_code == 202
    await door.messages(taken + 1)


async def test_an_address_that_guesses_is_stopped_and_a_genuine_sender_behind_it_is_not_counted(
    database_url: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    sender = await Sender.register(database_url)
    async with open_door(database_url, rabbitmq_url, tmp_path, forged_webhooks_per_second=1) as door:
        for _ in range(20):
            assert (await door.post(sender, payload())).status_code == 202
        guesses = [(await door.post(sender, payload(), secret=OTHER_SECRET)).status_code for _ in range(6)]
        assert guesses == [401, 401, 401, 401, 429, 429]
        await asyncio.sleep(1.1)
        assert (await door.post(sender, payload())).status_code == 202
        await door.messages(21)


async def test_a_connection_whose_secret_cannot_be_read_answers_503(door: Door, database_url: str, tmp_path: Path) -> None:
    sender = await Sender.register(database_url, references=("file:later",))
    door.forgets_after(0.3)
    answer = await door.post(sender, payload())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    (tmp_path / "later").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    await asyncio.sleep(0.4)
    assert (await door.post(sender, payload())).status_code == 202
    await door.messages(1)


@pytest.mark.parametrize(("status", "expected"), [("blocked", 202), ("archived", 404)])
async def test_a_blocked_directory_still_takes_webhooks_and_an_archived_one_does_not(
    door: Door, sender: Sender, database_url: str, status: str, expected: int
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("update connections set status = $1", status)
    await connection.close()
    assert (await door.post(sender, payload())).status_code == expected


async def test_the_rest_of_the_service_is_where_it_was(door: Door) -> None:
    assert (await door.client.get("/health")).status_code == 200
    assert (await door.client.get("/ready")).status_code == 200
    assert (await door.client.get("/webhook")).status_code == 404


async def test_a_repeated_header_is_refused(door: Door, sender: Sender) -> None:
    body = b"{}"
    signed: list[Any] = list(sender.headers(body).items())
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        repeated = [*signed, (name, dict(signed)[name])]
        assert (await door.client.post(sender.path, content=body, headers=repeated)).status_code == 401
