"""Declares what the contracts say there is: exchanges, queues, bindings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractConnection

from contracts.channels import CHANNELS, EVENTS, EXCHANGES, NOTIFICATIONS, Queue, membership_updated_routing_key
from service.clients.amqp_connection import BROKER_ERRORS, own_cancellation, says_closed
from service.domain.errors import Unavailable
from service.domain.member import CompanyId

__all__ = ["bind_companies", "declare_topology"]

_SECONDS: Final = 10.0


async def declare_topology(channel: AbstractChannel) -> None:
    """Declare every exchange and the queues of every channel that has a consumer; safe to repeat, raises aio_pika's errors."""
    for exchange in EXCHANGES:
        await channel.declare_exchange(exchange.name, exchange.kind, durable=exchange.durable, timeout=_SECONDS)
    for entry in CHANNELS:
        if entry.queue is None or not entry.consumed:
            continue
        for queue in entry.queue.queues:
            await _declare(channel, queue)
        if not entry.bound_singly:
            main = await channel.get_queue(entry.queue.main.name, ensure=False)
            await main.bind(entry.exchange.name, entry.binding_key, timeout=_SECONDS)


async def bind_companies(connection: AbstractConnection, companies: Collection[CompanyId]) -> None:
    """Let the events of these companies reach the notifier, whose queue is made where it is not there; safe to repeat.

    Raises Unavailable.
    """
    try:
        with own_cancellation():
            channel = await connection.channel()
            await declare_topology(channel)
            queue = await channel.get_queue(NOTIFICATIONS.main.name, ensure=False)
            for company_id in companies:
                await queue.bind(EVENTS.name, membership_updated_routing_key(company_id), timeout=_SECONDS)
            await channel.close()
    except (*BROKER_ERRORS, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not says_closed(error):
            raise
        message = f"the broker does not bind the notifier's queue ({type(error).__name__})"
        raise Unavailable(message) from None


async def _declare(channel: AbstractChannel, queue: Queue) -> None:
    await channel.declare_queue(queue.name, durable=queue.durable, arguments=dict(queue.arguments), timeout=_SECONDS)
