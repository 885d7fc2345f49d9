"""Declares what the contracts say there is: exchanges, queues, bindings."""

from __future__ import annotations

from typing import Final

from aio_pika.abc import AbstractChannel

from contracts.channels import CHANNELS, EXCHANGES, Queue

__all__ = ["declare_topology"]

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
        main = await channel.get_queue(entry.queue.main.name, ensure=False)
        await main.bind(entry.exchange.name, entry.binding_key, timeout=_SECONDS)


async def _declare(channel: AbstractChannel, queue: Queue) -> None:
    await channel.declare_queue(queue.name, durable=queue.durable, arguments=dict(queue.arguments), timeout=_SECONDS)
