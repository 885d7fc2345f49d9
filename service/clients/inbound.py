"""Publishing to Rollcall itself: what an upstream, the `publish` command and the demo do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Self

import aio_pika
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError

from contracts.channels import Channel
from contracts.envelope import Envelope
from service.clients import amqp_connection
from service.domain.errors import Unavailable

__all__ = ["InboundPublisher", "NotDeliveredError"]

_SECONDS: Final = 10.0


class NotDeliveredError(Exception):
    """The broker did not take the message: no queue is bound for it, or its queue refused it."""


class InboundPublisher:
    """Publishes messages of inbound channels, each confirmed; a message that no queue takes is an error."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator[Self]:
        """A publisher over a connection of its own; raises Unavailable."""
        async with amqp_connection.connected(url) as connection:
            with _told_as_unavailable("does not open a channel"):
                async with asyncio.timeout(_SECONDS):
                    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            yield cls(channel)

    async def publish(self, channel: Channel, envelope: Envelope, body: bytes, *, routing_key: str | None = None) -> None:
        """Publish and wait for the confirm; raises NotDeliveredError and Unavailable."""
        properties = envelope.to_properties()
        message = aio_pika.Message(
            body,
            headers=dict(envelope.to_headers()),
            message_id=properties.message_id,
            type=properties.type,
            timestamp=properties.timestamp,
            correlation_id=properties.correlation_id,
            content_type=properties.content_type,
            delivery_mode=properties.delivery_mode,
        )
        with _told_as_unavailable("did not confirm"):
            try:
                exchange = await self._channel.get_exchange(channel.exchange.name, ensure=False)
                await exchange.publish(message, routing_key or channel.routing_key, mandatory=True, timeout=_SECONDS)
            except DeliveryError:
                text = f"no queue took it: is a worker's queue bound to {channel.exchange.name}?"
                raise NotDeliveredError(text) from None


@contextmanager
def _told_as_unavailable(what: str) -> Iterator[None]:
    """All that the library raises where the broker is gone, its own cancellation of what waited for an answer among it."""
    try:
        with amqp_connection.own_cancellation():
            yield
    except (*amqp_connection.BROKER_ERRORS, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not amqp_connection.says_closed(error):
            raise
        text = f"the broker {what} ({type(error).__name__})"
        raise Unavailable(text) from None
