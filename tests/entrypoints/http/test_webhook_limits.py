"""How long the door waits for the broker: by its own limit alone, counted from the body's last byte."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from service.actions.find_webhook import WebhookSource
from service.clients.confirm_channel import Confirmed, Outcome
from service.domain.member import CompanyId, ConnectionId
from service.domain.webhooks.schemes import PRESETS, SchemeName, Secret
from service.domain.webhooks.signatures import sign
from service.entrypoints.http.webhooks import WebhookDoor, WebhookLimits
from service.wiring import edge
from tests.webhook_rig import SECRET

GITHUB = PRESETS[SchemeName.GITHUB]
KEY = GITHUB.key(SECRET)
BODY = b'{"id":"ada"}'
PROMISED = timedelta(seconds=2.5)
SHORT = timedelta(milliseconds=100)


class Request:
    """One request as the server hands it over; its body comes when it is told to."""

    def __init__(self) -> None:
        self.connection_id = ConnectionId(uuid4())
        self.body: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []

    def send_body(self) -> None:
        self.body.put_nowait({"type": "http.request", "body": BODY, "more_body": False})

    async def to(self, publish: Callable[..., Awaitable[Outcome]], limits: WebhookLimits, *, admits: bool = True) -> int:
        async def find(_: ConnectionId) -> WebhookSource:
            return WebhookSource(self.connection_id, CompanyId(uuid4()), GITHUB, (Secret(KEY),), 100)

        async def admit(*_: object) -> bool:
            if not admits:
                await asyncio.Event().wait()
            return True

        async def send(message: Any) -> None:
            self.sent.append(message)

        headers = [(b"content-type", b"application/json")]
        signed = sign(GITHUB, KEY, BODY, message_id="", now=datetime.now(UTC))
        headers += [(name.encode(), value.encode()) for name, value in signed]
        scope = {"method": "POST", "path": f"/webhooks/{self.connection_id}", "headers": headers, "client": ("127.0.0.1", 1)}
        await WebhookDoor(find, admit, publish, limits)(scope, self.body.get, send)
        return int(self.sent[0]["status"])


class Broker:
    """Takes messages, and says nothing of them until `word` is set."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.word = asyncio.Event()
        self.given_up = False

    async def publish(self, _: object) -> Outcome:
        self.asked.set()
        try:
            # Not at once even then: a limit that has passed already gets its turn.
            await asyncio.sleep(SHORT.total_seconds() / 10)
            await self.word.wait()
        except asyncio.CancelledError:
            self.given_up = True
            raise
        return Confirmed()


def test_the_limits_are_below_what_is_promised_and_a_dead_connection_is_given_up_before_the_answer() -> None:
    assert edge._PUBLISH_WITHIN < WebhookLimits().confirm < PROMISED


async def test_a_broker_that_says_nothing_is_given_up_at_the_limit_and_told_with_a_time_to_come_back() -> None:
    broker, request = Broker(), Request()
    request.send_body()
    assert await request.to(broker.publish, WebhookLimits(confirm=SHORT)) == 503
    # Answered although the broker never said a word.
    assert broker.asked.is_set()
    assert broker.given_up
    assert (b"retry-after", b"5") in request.sent[0]["headers"]


async def test_the_limit_counts_for_all_that_comes_after_the_body() -> None:
    broker, request = Broker(), Request()
    request.send_body()
    assert await request.to(broker.publish, WebhookLimits(confirm=SHORT), admits=False) == 503
    assert not broker.asked.is_set()


async def test_the_time_that_a_body_takes_is_not_taken_from_the_broker() -> None:
    broker, request = Broker(), Request()
    broker.word.set()
    asking = asyncio.create_task(request.to(broker.publish, WebhookLimits(confirm=SHORT)))
    # Three times as long as the broker has.
    await asyncio.sleep(3 * SHORT.total_seconds())
    assert not asking.done()
    request.send_body()
    assert await asking == 202
