"""The parked queues: looked through without loss and in order, replayed, dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, Self

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError
from aiormq.exceptions import ChannelLockedResource

from contracts.channels import QueueFamily
from contracts.failures import (
    FIRST_ERROR_HEADER,
    FIRST_FAILED_AT_HEADER,
    PARKED_AT_HEADER,
    REASON_HEADER,
    failed_attempts,
    headers_of_replay,
    times_replayed,
)
from service.clients.amqp_connection import BROKER_ERRORS
from service.clients.inbound import NotDeliveredError
from service.domain.errors import RollcallError, Unavailable

__all__ = ["InUseError", "ParkedMessage", "ParkedQueue"]

_SECONDS: Final = 10.0
_RETURN_LOOKS: Final = 100
_RETURN_PAUSE_SECONDS: Final = 0.02
# Bodies of one page are in memory at once, and no others.
_PAGE: Final = 500
# A page is a channel, of which a connection has 2,047.
_MOST_PAGES: Final = 2_000
# How long the next message of a page may take: somebody with another tool may have taken it.
_SILENCE_SECONDS: Final = 3.0
_LOCK_SECONDS: Final = 10.0
_LOCK_PAUSE_SECONDS: Final = 0.25
_BY_THE_BROKER: Final = {
    "delivery_limit": "came back unanswered too often: parked by the broker",
    "rejected": "rejected by its consumer, which could not say why: parked by the broker",
}


class InUseError(RollcallError):
    """Somebody else is looking at the same parked queue."""


@dataclass(frozen=True, slots=True)
class ParkedMessage:
    """A parked message as it lies there; its body, and with it personal data, is not in its repr."""

    queue: str
    id: str
    type: str
    reason: str
    parked_at: datetime | None
    first_error: str | None
    first_failed_at: datetime | None
    attempts: int
    replays: int
    headers: Mapping[str, Any] = field(repr=False)
    properties: Mapping[str, Any]
    body: bytes = field(repr=False)
    tag: int

    @classmethod
    def of(cls, message: AbstractIncomingMessage, queue: str) -> Self:
        """What the headers tell of it; a message without an id is known by a digest of its body."""
        headers = message.headers
        digest = blake2b(message.body, digest_size=8).hexdigest()
        death = _last_death(headers)
        names = ("message_id", "type", "timestamp", "correlation_id", "content_type", "content_encoding")
        return cls(
            queue=queue,
            id=message.message_id or _text(headers.get("ce-id")) or f"body-{digest}",
            type=message.type or _text(headers.get("ce-type")) or "unknown",
            reason=_text(headers.get(REASON_HEADER)) or _BY_THE_BROKER.get(str(death.get("reason")), "nothing says why"),
            parked_at=_time(headers.get(PARKED_AT_HEADER)) or _time(death.get("time")),
            first_error=_text(headers.get(FIRST_ERROR_HEADER)),
            first_failed_at=_time(headers.get(FIRST_FAILED_AT_HEADER)),
            attempts=failed_attempts(headers),
            replays=times_replayed(headers),
            headers=headers,
            properties={name: value for name in names if (value := getattr(message, name)) is not None},
            body=message.body,
            tag=message.delivery_tag or 0,
        )


@dataclass(slots=True)
class _Page:
    """A channel with one consumer, which holds what it took."""

    channel: AbstractChannel
    held: int = 0


class ParkedQueue:
    """One parked queue in the hands of one reader, who holds every message that was looked at until the end.

    Nothing is taken out of it but what was dropped, or replayed and confirmed; the rest goes back to its place, in its order. Were
    the reader killed, the broker takes all back.
    """

    def __init__(self, connection: AbstractConnection, publishing: AbstractChannel, family: QueueFamily, parked: int) -> None:
        self._connection = connection
        self._publishing = publishing
        self._family = family
        # Of those that were there when the queue was opened, how many no page has held yet.
        self.unread = parked
        self._pages: list[_Page] = []

    @classmethod
    @asynccontextmanager
    async def held(cls, connection: AbstractConnection, family: QueueFamily) -> AsyncIterator[Self | None]:
        """The parked queue of a family, None where it is not there; raises Unavailable, and InUseError where another holds it."""
        with _translated():
            await _lock(connection, family)
            publishing = await connection.channel(publisher_confirms=True, on_return_raises=True)
            parked = await _ready(connection, family)
        if parked is None:
            yield None
            return
        queue = cls(connection, publishing, family, parked)
        try:
            yield queue
        finally:
            with _translated():
                await queue._give_back()

    async def pages(self) -> AsyncIterator[list[ParkedMessage]]:
        """What was parked when the queue was opened, oldest first; a page may be acted on until the next one is asked for."""
        while self.unread > 0 and len(self._pages) < _MOST_PAGES:
            with _translated():
                page = await self._fetch(min(self.unread, _PAGE))
            if not page:
                return
            self.unread -= len(page)
            yield page

    async def replay(self, messages: Sequence[ParkedMessage]) -> None:
        """Send messages of this page to their queue again, in order; each leaves the parked queue once the broker confirmed it.

        Raises NotDeliveredError and Unavailable; what was confirmed by then is not parked any more.
        """
        target = self._family.main.name
        exchange = self._publishing.default_exchange
        sent = await asyncio.gather(
            *(exchange.publish(_again(message), target, mandatory=True, timeout=_SECONDS) for message in messages),
            return_exceptions=True,
        )
        await self.drop([message for message, answer in zip(messages, sent, strict=True) if not isinstance(answer, BaseException)])
        for answer in sent:
            if isinstance(answer, DeliveryError):
                text = f"{target} does not take messages: is it there, and has it room?"
                raise NotDeliveredError(text) from None
            if isinstance(answer, BaseException):
                with _translated():
                    raise answer

    async def drop(self, messages: Sequence[ParkedMessage]) -> None:
        """Delete messages of this page."""
        page = self._pages[-1]
        with _translated():
            channel = await page.channel.get_underlay_channel()
            for message in messages:
                await channel.basic_ack(message.tag)
        page.held -= len(messages)

    async def _fetch(self, count: int) -> list[ParkedMessage]:
        """The next messages, as many as are there. Asking one by one would take minutes for 100,000."""
        channel = await self._connection.channel()
        await channel.set_qos(prefetch_count=count, timeout=_SECONDS)
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        queue = await channel.get_queue(self._family.parked.name, ensure=False)
        self._pages.append(_Page(channel))
        consumer = await queue.consume(arrived.put, timeout=_SECONDS)
        page: list[ParkedMessage] = []
        try:
            while len(page) < count:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    page.append(ParkedMessage.of(await arrived.get(), self._family.main.name))
        except TimeoutError:
            pass
        finally:
            await queue.cancel(consumer, timeout=_SECONDS)
        while not arrived.empty():
            page.append(ParkedMessage.of(arrived.get_nowait(), self._family.main.name))
        self._pages[-1].held = len(page)
        return page

    async def _give_back(self) -> None:
        """Close the channels one after the other: RabbitMQ puts back what a channel held in order, what is rejected in any."""
        ready = await _ready(self._connection, self._family) or 0
        for page in self._pages:
            await asyncio.wait_for(page.channel.close(), _SECONDS)
            ready += page.held
            # It says that the channel is closed before its messages are back.
            for _ in range(_RETURN_LOOKS):
                if (await _ready(self._connection, self._family) or 0) >= ready:
                    break
                await asyncio.sleep(_RETURN_PAUSE_SECONDS)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except BROKER_ERRORS as error:
        message = f"the broker does not answer ({type(error).__name__})"
        raise Unavailable(message) from None


async def _ready(connection: AbstractConnection, family: QueueFamily) -> int | None:
    """How many messages nobody holds; None where there is no such queue."""
    channel = await connection.channel()
    try:
        queue = await channel.declare_queue(family.parked.name, passive=True, timeout=_SECONDS)
    except ChannelNotFoundEntity:
        return None
    await channel.close()
    return queue.declaration_result.message_count or 0


async def _lock(connection: AbstractConnection, family: QueueFamily) -> None:
    """Wait for the right to look: a queue that belongs to this connection, and that no other can declare meanwhile."""
    name = f"{family.parked.name}.reader"
    deadline = asyncio.get_running_loop().time() + _LOCK_SECONDS
    while True:
        channel = await connection.channel()
        try:
            await channel.declare_queue(name, exclusive=True, auto_delete=True, timeout=_SECONDS)
        except ChannelLockedResource:
            if asyncio.get_running_loop().time() > deadline:
                message = f"somebody else is looking at {family.parked.name}; try again when they are done"
                raise InUseError(message) from None
            await asyncio.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return


def _again(message: ParkedMessage) -> aio_pika.Message:
    return aio_pika.Message(
        message.body,
        headers=headers_of_replay(message.headers),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        **message.properties,
    )


def _last_death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    deaths = headers.get("x-death")
    return deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], Mapping) else {}


def _text(value: object) -> str | None:
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="replace")
    return str(value) if isinstance(value, str | int) and value != "" else None


def _time(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
