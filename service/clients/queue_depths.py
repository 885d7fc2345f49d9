"""How much lies in the queues, as the broker says when asked for each; changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity

__all__ = ["QueueDepth", "queue_depths"]

_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Messages that nobody holds, and consumers."""

    messages: int
    consumers: int


async def queue_depths(connection: AbstractConnection, names: Iterable[str]) -> dict[str, QueueDepth]:
    """The queues of these names that are there; raises the library's errors."""
    found = {}
    channel = await connection.channel()
    for name in names:
        try:
            queue = await channel.declare_queue(name, passive=True, timeout=_SECONDS)
        except ChannelNotFoundEntity:
            # The refusal has closed the channel.
            channel = await connection.channel()
            continue
        answer = queue.declaration_result
        found[name] = QueueDepth(answer.message_count or 0, answer.consumer_count or 0)
    await channel.close()
    return found
