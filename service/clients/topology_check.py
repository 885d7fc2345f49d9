"""Looks whether what the contracts declare is there, as they declare it; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from contracts.channels import CHANNELS, EXCHANGES, Exchange, Queue, QueueFamily

__all__ = ["QueueState", "broker_version", "check_topology", "queue_families"]

_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue that is there: messages that nobody holds, and consumers."""

    messages: int
    consumers: int


def broker_version(connection: AbstractConnection) -> str:
    """What the broker says it is, such as 3.10.8."""
    properties = connection.transport.connection.server_properties if connection.transport else {}
    return str(properties.get("version", "of an unknown version"))


def queue_families() -> list[QueueFamily]:
    """The queues of every consumer there is."""
    return list({channel.queue.main.name: channel.queue for channel in CHANNELS if channel.queue and channel.consumed}.values())


async def check_topology(connection: AbstractConnection) -> tuple[dict[str, QueueState], list[str], list[str]]:
    """The queues that are as declared; the names of what is missing; the names of what is there with other arguments."""
    queues: dict[str, QueueState] = {}
    missing: list[str] = []
    different: list[str] = []
    declared: list[Exchange | Queue] = [*EXCHANGES]
    declared += [queue for family in queue_families() for queue in family.queues]
    for entity in declared:
        try:
            # A queue or exchange that is there is not made by declaring it again, only compared.
            state = await _compare(connection, entity) if await _exists(connection, entity) else None
        except ChannelPreconditionFailed:
            different.append(entity.name)
            continue
        if state is None:
            missing.append(entity.name)
        elif isinstance(entity, Queue):
            queues[entity.name] = state
    return queues, missing, different


async def _exists(connection: AbstractConnection, entity: Exchange | Queue) -> bool:
    # A refusal closes its channel: each question has one of its own.
    channel = await connection.channel()
    try:
        if isinstance(entity, Queue):
            await channel.declare_queue(entity.name, passive=True, timeout=_SECONDS)
        else:
            await channel.declare_exchange(entity.name, passive=True, timeout=_SECONDS)
    except ChannelNotFoundEntity:
        return False
    await channel.close()
    return True


async def _compare(connection: AbstractConnection, entity: Exchange | Queue) -> QueueState:
    channel = await connection.channel()
    if isinstance(entity, Exchange):
        await channel.declare_exchange(entity.name, entity.kind, durable=entity.durable, timeout=_SECONDS)
        state = QueueState(0, 0)
    else:
        queue = await channel.declare_queue(entity.name, durable=entity.durable, arguments=dict(entity.arguments), timeout=_SECONDS)
        answer = queue.declaration_result
        state = QueueState(answer.message_count or 0, answer.consumer_count or 0)
    await channel.close()
    return state
