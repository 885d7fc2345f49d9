"""How much memory the service takes while a great many messages go through it: worker and relay, a process each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aio_pika
import asyncpg

from contracts.channels import EVENTS
from service.clients.inbound import InboundPublisher
from tests.service_rig import RunningService, Upstream, empty, publish, running_service

__all__ = ["MESSAGES", "Memory", "measure"]

MESSAGES: Final = 200_000
# Of one member each a few versions, as in life.
VERSIONS: Final = 4
CHUNK: Final = 5_000
# As many as may wait in the queue: more would measure the broker's memory.
AHEAD: Final = 10_000


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident mebibytes of each process after a tenth of the messages, at the most from then on, and after all of them."""

    messages: int
    early: dict[str, float]
    most: dict[str, float]
    late: dict[str, float]


async def measure(*, database_url: str, rabbitmq_url: str, messages: int = MESSAGES, say: Callable[[str], None] = print) -> Memory:
    """Send so many changes through worker and relay to a subscriber; the database must be migrated, the vhost ours."""
    await empty(rabbitmq_url)
    upstream = await Upstream.register(database_url)
    samples: list[tuple[int, dict[str, float]]] = []
    async with (
        running_service(database_url, rabbitmq_url, "worker") as worker,
        running_service(database_url, rabbitmq_url, "relay") as relay,
        await aio_pika.connect(rabbitmq_url) as connection,
        InboundPublisher.connected(rabbitmq_url) as publisher,
    ):
        processes = {"worker": worker, "relay": relay}
        received = await _subscribe(connection)
        database = await asyncpg.connect(database_url)
        for start in range(0, messages, CHUNK):
            numbers = range(start, min(start + CHUNK, messages))
            bodies = (upstream.upsert(f"member {n // VERSIONS}", n % VERSIONS + 1, plan=f"plan {n % VERSIONS}") for n in numbers)
            await publish(publisher, bodies)
            await _until(received, numbers.stop - AHEAD, processes)
            samples.append((received[0], {name: _resident(process) for name, process in processes.items()}))
            say(f"{received[0]:,} of {messages:,}: " + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in samples[-1][1].items()))
        await _until(received, messages, processes)
        late = {name: _resident(process) for name, process in processes.items()}
        left = await database.fetchval("select count(*) from outbox")
        await database.close()
    if left:
        message = f"{left} events are left in the outbox"
        raise RuntimeError(message)
    early = next(sizes for done, sizes in [*samples, (messages, late)] if done >= messages / 10)
    most = {name: max([late[name], *(sizes[name] for done, sizes in samples if done >= messages / 10)]) for name in processes}
    return Memory(messages, early, most, late)


async def _subscribe(connection: Any) -> list[int]:
    """A subscriber that counts."""
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=1000)
    queue = await channel.declare_queue(durable=True, exclusive=True)
    await queue.bind(EVENTS.name, "membership.updated.#")
    received = [0]

    async def on_event(_: Any) -> None:
        received[0] += 1

    await queue.consume(on_event, no_ack=True)
    return received


async def _until(received: list[int], count: int, processes: dict[str, RunningService]) -> None:
    async with asyncio.timeout(600):
        while received[0] < count:
            for name, service in processes.items():
                if service.process.returncode is not None:
                    message = f"the {name} ended\n{service.output[-4000:]}"
                    raise RuntimeError(message)
            await asyncio.sleep(0.05)


def _resident(service: RunningService) -> float:
    status = Path(f"/proc/{service.process.pid}/status").read_text(encoding="ascii")
    (kibibytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kibibytes) / 1024
