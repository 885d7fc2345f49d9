"""How fast one edge takes webhooks, beside a hand-written ASGI endpoint and a FastAPI one, and whether all it accepted is there.

Each contender is a process of its own on uvloop and httptools that verifies the signature and answers 202 after the broker's
confirm; the clients are another. All publish to the edge's own durable quorum queue. Nobody consumes: afterwards each accepted
webhook must be a message in that queue.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aio_pika
import httpx

from contracts.channels import WEBHOOKS
from tests import webhook_rig
from tests.benchmarks.rounds import Series, interleaved
from tests.benchmarks.webhook_endpoints import CONFIRMS, FASTAPI, LISTENING, RAW
from tests.benchmarks.webhook_load import CONNECTIONS, SECRET, Answers, answers_of, send_webhooks
from tests.service_rig import RunningService, depth, running_module, running_service
from tests.webhook_rig import Sender, empty, write_secrets

__all__ = ["CONFIRMS", "CONNECTIONS", "FASTAPI", "RAW", "REQUESTS", "Taken", "Webhooks", "measure"]

REQUESTS: Final = 10_000
ROLLCALL: Final = "rollcall"
CONTENDERS: Final = (ROLLCALL, RAW, FASTAPI, CONFIRMS)
ENDPOINTS: Final = "tests.benchmarks.webhook_endpoints"
# The most that a connection may have: the limit is drawn from all the same, it only never says no.
RATE_PER_SECOND: Final = 100_000


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one contender's webhooks: milliseconds to the answer in each round, and counts of all rounds.

    `accepted` got a 2xx and `refused` none; `missing` got a 2xx and were not in the queue.
    """

    p50: tuple[float, ...]
    p99: tuple[float, ...]
    accepted: int
    refused: int
    missing: int


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Answered webhooks per second of each contender, and what became of them."""

    rates: dict[str, Series]
    taken: dict[str, Taken]


async def measure(
    rounds: int, *, database_url: str, rabbitmq_url: str, requests: int = REQUESTS, say: Callable[[str], None] = print
) -> Webhooks:
    """Run each contender once a round on an emptied queue; the database must be migrated, the vhost ours to fill."""
    sender = await Sender.register(database_url, rate_per_second=RATE_PER_SECOND)
    known = {SECRET: webhook_rig.SECRET, "CONNECTION_ID": str(sender.connection_id)}
    all_answers: dict[str, list[tuple[Answers, int]]] = {name: [] for name in CONTENDERS}

    async def run(name: str) -> float:
        await empty(rabbitmq_url)
        if name == CONFIRMS:
            answers = await answers_of(ENDPOINTS, CONFIRMS, str(requests), RABBITMQ_URL=rabbitmq_url, **known)
        else:
            async with _listening(name, database_url, rabbitmq_url, known) as port:
                answers = await send_webhooks(port, sender.path, requests, **known)
        all_answers[name].append((answers, await _missing(rabbitmq_url, answers)))
        return len(answers.milliseconds) / answers.seconds

    rates = await interleaved(CONTENDERS, rounds, run, say)
    return Webhooks(rates, {name: _taken(answers) for name, answers in all_answers.items()})


@asynccontextmanager
async def _listening(name: str, database_url: str, rabbitmq_url: str, known: Mapping[str, str]) -> AsyncIterator[int]:
    """A contender's process that takes webhooks, on this port."""
    urls = (database_url, rabbitmq_url)
    with tempfile.TemporaryDirectory() as folder:
        if name == ROLLCALL:
            secrets = write_secrets(Path(folder))
            async with running_service(*urls, "edge", SECRETS_DIR=str(secrets), HOST="127.0.0.1") as service:
                port = await service.port()
                await _until_ready(service, port)
                yield port
                if status := await service.terminate():
                    message = f"the edge ended with {status}\n{service.output[-4000:]}"
                    raise RuntimeError(message)
            return
        async with running_module(*urls, ENDPOINTS, name, **known) as service:
            yield int((await service.says(LISTENING))["port"])


async def _until_ready(service: RunningService, port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        deadline = time.monotonic() + 30
        while not (answer := await client.get("/ready")).is_success:
            if service.process.returncode is not None or time.monotonic() > deadline:
                message = f"the edge does not get ready: {answer.text}\n{service.output[-4000:]}"
                raise RuntimeError(message)
            await asyncio.sleep(0.05)


async def _missing(rabbitmq_url: str, answers: Answers) -> int:
    """How many accepted webhooks are not in the queue; raises RuntimeError where it holds what nobody sent, or something twice."""
    connection = await aio_pika.connect(rabbitmq_url)
    async with connection:
        channel = await connection.channel()
        ready = await depth(channel, WEBHOOKS.main.name)
        there = await _ids(channel, ready)
    # What was refused may have landed all the same: its confirm came too late.
    if len(set(there)) != ready or not set(there) <= {*answers.accepted, *answers.refused}:
        message = f"the queue holds {ready} messages of {len(set(there))} webhooks"
        raise RuntimeError(message)
    return len(set(answers.accepted) - set(there))


async def _ids(channel: Any, count: int) -> list[str]:
    """Take so many messages out of the queue; answers their ids."""
    found: list[str] = []
    all_there = asyncio.Event()

    async def on_message(message: Any) -> None:
        found.append(message.message_id)
        if len(found) >= count:
            all_there.set()

    queue = await channel.get_queue(WEBHOOKS.main.name)
    await queue.consume(on_message, no_ack=True)
    if count:
        async with asyncio.timeout(60):
            await all_there.wait()
    return found


def _taken(rounds: list[tuple[Answers, int]]) -> Taken:
    percentiles = [statistics.quantiles(answers.milliseconds, n=100, method="inclusive") for answers, _ in rounds]
    return Taken(
        p50=tuple(each[49] for each in percentiles),
        p99=tuple(each[98] for each in percentiles),
        accepted=sum(len(answers.accepted) for answers, _ in rounds),
        refused=sum(len(answers.refused) for answers, _ in rounds),
        missing=sum(missing for _, missing in rounds),
    )
