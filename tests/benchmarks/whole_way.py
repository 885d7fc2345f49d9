"""From a webhook's 202 to the delivery of the event that it made: edge, queue, worker, outbox, relay, queue.

Two processes: the edge, and the worker with the relay.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aio_pika
import httpx

from contracts.channels import EVENTS
from tests.relay_rig import eventually
from tests.service_rig import empty, running_service
from tests.webhook_rig import Sender, payload, write_secrets

__all__ = ["RATE", "WEBHOOKS", "WholeWay", "measure"]

WEBHOOKS: Final = 1_000
RATE: Final = 50
WARM_UP: Final = 50


@dataclass(frozen=True, slots=True)
class WholeWay:
    """Milliseconds from the answer to the event, for each round; `lost` were accepted and made no event."""

    webhooks: int
    p50: tuple[float, ...]
    p99: tuple[float, ...]
    most: float
    lost: int


async def measure(
    rounds: int, *, database_url: str, rabbitmq_url: str, webhooks: int = WEBHOOKS, say: Callable[[str], None] = print
) -> WholeWay:
    """Post 50 webhooks a second, each about another new member; the database must be migrated, the vhost ours."""
    await empty(rabbitmq_url)
    sender = await Sender.register(database_url)
    taken: list[list[float]] = []
    lost = 0
    with tempfile.TemporaryDirectory() as folder:
        secrets = str(write_secrets(Path(folder)))
        async with (
            running_service(database_url, rabbitmq_url, "worker", "relay"),
            running_service(database_url, rabbitmq_url, "edge", SECRETS_DIR=secrets, HOST="127.0.0.1") as edge,
            await aio_pika.connect(rabbitmq_url) as connection,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{await edge.port()}", timeout=30) as client,
        ):
            arrived: dict[str, float] = {}
            await _subscribe(connection, arrived)

            async def ready() -> bool:
                return (await client.get("/ready")).is_success

            await eventually(ready, within=60)
            await _round(client, sender, arrived, "warm-up", WARM_UP)
            for number in range(1, rounds + 1):
                milliseconds, missing = await _round(client, sender, arrived, f"round {number}", webhooks)
                taken.append(milliseconds)
                lost += missing
                half, late = _percentile(milliseconds, 50), _percentile(milliseconds, 99)
                say(f"round {number} of {rounds}: p50 {half:.1f} ms, p99 {late:.1f} ms")
    return WholeWay(
        webhooks=webhooks * rounds,
        p50=tuple(_percentile(each, 50) for each in taken),
        p99=tuple(_percentile(each, 99) for each in taken),
        most=max(max(each) for each in taken),
        lost=lost,
    )


async def _subscribe(connection: Any, arrived: dict[str, float]) -> None:
    """Note when the event of each member comes; a transient queue is enough for a subscriber that is here all the time."""
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=500)
    queue = await channel.declare_queue(durable=True, exclusive=True)
    await queue.bind(EVENTS.name, "membership.updated.#")

    async def on_event(message: Any) -> None:
        now = time.perf_counter()
        arrived.setdefault(json.loads(message.body)["externalId"], now)
        await message.ack()

    await queue.consume(on_event)


async def _round(
    client: httpx.AsyncClient, sender: Sender, arrived: dict[str, float], name: str, webhooks: int
) -> tuple[list[float], int]:
    answered: dict[str, float] = {}

    async def post(external_id: str) -> None:
        raw = json.dumps(payload(external_id)).encode()
        answer = await client.post(sender.path, content=raw, headers=sender.headers(raw))
        if answer.status_code == 202:
            answered[external_id] = time.perf_counter()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(webhooks):
            await asyncio.sleep(max(0.0, started + number / RATE - time.perf_counter()))
            group.create_task(post(f"{name} {number}"))
    if len(answered) != webhooks:
        message = f"{webhooks - len(answered)} of {webhooks} webhooks were not accepted"
        raise RuntimeError(message)
    deadline = time.perf_counter() + 60
    while answered.keys() - arrived.keys() and time.perf_counter() < deadline:
        await asyncio.sleep(0.05)
    # An event may come before its webhook's answer was read: that is no time at all.
    there = answered.keys() & arrived.keys()
    return [max(0.0, arrived[one] - answered[one]) * 1000 for one in there], len(answered) - len(there)


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
