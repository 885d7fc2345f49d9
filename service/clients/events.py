"""Listening to the events that leave: what `events tail` and the demo do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue

from contracts.channels import EVENTS, MEMBERSHIP_UPDATED, membership_updated_routing_key
from contracts.membership_updated import MembershipUpdatedV1
from service.clients.amqp_connection import BROKER_ERRORS, connected
from service.domain.errors import Unavailable

__all__ = ["listening_to_events"]

_SECONDS: Final = 10.0
_PREFETCH: Final = 200


@asynccontextmanager
async def listening_to_events(url: str, company_id: UUID | None = None) -> AsyncIterator[AsyncIterator[MembershipUpdatedV1]]:
    """Events from now on, all or one company's, over a queue that ends with the listener; raises Unavailable."""
    async with connected(url) as connection:
        try:
            queue = await _bound_queue(connection, company_id)
        except BROKER_ERRORS as error:
            message = f"the broker gives no queue for the events ({type(error).__name__})"
            raise Unavailable(message) from None
        async with queue.iterator() as messages:
            yield _events(messages)


async def _bound_queue(connection: AbstractConnection, company_id: UUID | None) -> AbstractQueue:
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=_PREFETCH, timeout=_SECONDS)
    exchange = await channel.declare_exchange(EVENTS.name, EVENTS.kind, durable=EVENTS.durable, timeout=_SECONDS)
    queue = await channel.declare_queue(exclusive=True, timeout=_SECONDS)
    key = MEMBERSHIP_UPDATED.binding_key if company_id is None else membership_updated_routing_key(company_id)
    await queue.bind(exchange, key, timeout=_SECONDS)
    return queue


async def _events(messages: AsyncIterator[AbstractIncomingMessage]) -> AsyncIterator[MembershipUpdatedV1]:
    async for message in messages:
        yield MembershipUpdatedV1.from_json(message.body)
        await message.ack()
    # Nobody asked it to end: the queue is gone, and what was not seen yet with it.
    raise Unavailable("the broker closed the connection")
