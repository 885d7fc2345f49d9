"""How long an event takes from its commit to its subscriber, through one relay that has little to do.

Beside Rollcall's relay: the barest one that there can be, and faststream-outbox; each a process, in interleaved rounds.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from service.store.database import Database, Tx
from service.store.outbox import OutboxRow, insert_outbox
from tests.benchmarks.rounds import turns
from tests.relay_rig import Sink, inversions, open_sink
from tests.service_rig import running_service

__all__ = ["BARE", "FASTSTREAM_OUTBOX", "Latency", "measure"]

ROOT = Path(__file__).resolve().parents[2]
EVENTS = 1_000
RATE = 200
KEYS = 50
TYPE = "MEMBERSHIP_UPDATED"
ROLLCALL: Final = "rollcall"
BARE: Final = "bare"
FASTSTREAM_OUTBOX: Final = "faststream_outbox"
INSERT_FOREIGN: Final = """
with inserted as (insert into latency_outbox (queue, payload, headers) values ('relay', $1, $2::jsonb))
select pg_notify('outbox_latency_outbox', 'relay')"""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from just before an event's commit until its subscriber has it, for each round, and what became of order."""

    events: int
    p50: tuple[float, ...]
    p99: tuple[float, ...]
    most: float
    out_of_order: int


class _Events:
    """Events of a few members, each committed by itself, and when each came."""

    def __init__(self, database: Database, sink: Sink, insert: Callable[[Tx, UUID, str, str, str], Awaitable[None]]) -> None:
        self._database = database
        self._sink = sink
        self._insert = insert
        self._keys = [uuid4() for _ in range(KEYS)]
        self._written = 0
        self._committed: dict[str, float] = {}
        self.milliseconds: list[float] = []

    async def commit(self) -> None:
        key, message_id = self._keys[self._written % KEYS], str(uuid4())
        body = json.dumps({"id": message_id, "key": str(key), "version": self._written // KEYS + 1, "padding": "x" * 400})
        async with self._database.transaction() as tx:
            await self._insert(tx, key, self._sink.exchange.name, message_id, body)
            self._committed[message_id] = time.perf_counter()
        self._written += 1

    async def take(self, message: Any) -> None:
        arrived = time.perf_counter()
        self.milliseconds.append((arrived - self._committed[json.loads(message.body)["id"]]) * 1000)
        self._sink.messages.append(message)
        await message.ack()

    async def until_came(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.milliseconds) < count:
                await asyncio.sleep(0.01)


async def measure(
    rounds: int, *, database_url: str, rabbitmq_url: str, events: int = EVENTS, say: Callable[[str], None] = print
) -> dict[str, Latency]:
    """Commit 200 events a second, one at a time, and await them; the database must be migrated and its outbox empty."""
    taken: dict[str, list[tuple[list[float], int]]] = {name: [] for name in CONTENDERS}
    database = await Database.connect(database_url, name="benchmark", size=1)
    try:
        for number, name in turns(tuple(CONTENDERS), rounds):
            milliseconds, out_of_order = await _round(name, database, database_url, rabbitmq_url, events)
            taken[name].append((milliseconds, out_of_order))
            median, late = _percentile(milliseconds, 50), _percentile(milliseconds, 99)
            say(f"round {number} of {rounds}: {name} p50 {median:.1f} ms, p99 {late:.1f} ms")
    finally:
        await database.close()
    return {name: _summed_up(events, each) for name, each in taken.items()}


def _summed_up(events: int, rounds: list[tuple[list[float], int]]) -> Latency:
    return Latency(
        events=events * len(rounds),
        p50=tuple(_percentile(milliseconds, 50) for milliseconds, _ in rounds),
        p99=tuple(_percentile(milliseconds, 99) for milliseconds, _ in rounds),
        most=max(max(milliseconds) for milliseconds, _ in rounds),
        out_of_order=sum(out_of_order for _, out_of_order in rounds),
    )


async def _round(name: str, database: Database, database_url: str, rabbitmq_url: str, events: int) -> tuple[list[float], int]:
    insert, running = CONTENDERS[name]
    async with open_sink(rabbitmq_url, consume=False) as sink, running(database_url, rabbitmq_url, sink.exchange.name):
        stream = _Events(database, sink, insert)
        consumer = await sink.queue.consume(stream.take)
        # Whatever it is starts and connects; what it does then first it does for the first time.
        for _ in range(KEYS):
            await stream.commit()
        await stream.until_came(KEYS)
        await asyncio.sleep(0.5)
        stream.milliseconds.clear()
        started = time.perf_counter()
        for number in range(events):
            await asyncio.sleep(max(0.0, started + number / RATE - time.perf_counter()))
            await stream.commit()
        await stream.until_came(events)
        await sink.queue.cancel(consumer)
    return stream.milliseconds, inversions(sink.got)


async def _insert(tx: Tx, key: UUID, exchange: str, message_id: str, body: str) -> None:
    row = OutboxRow(
        order_key=key,
        exchange=exchange,
        routing_key=TYPE,
        type=TYPE,
        message_id=message_id,
        correlation_id="benchmark",
        headers={},
        body=body,
        occurred_at=datetime.now(UTC),
    )
    await insert_outbox(tx, [row])


async def _insert_foreign(tx: Tx, _key: UUID, _exchange: str, message_id: str, body: str) -> None:
    await tx.execute(INSERT_FOREIGN, body.encode(), {"content-type": "application/json", "correlation_id": message_id})


@asynccontextmanager
async def _rollcall(database_url: str, rabbitmq_url: str, _exchange: str) -> AsyncIterator[None]:
    async with running_service(database_url, rabbitmq_url, "relay"):
        yield


def _other(name: str) -> Callable[[str, str, str], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def running(database_url: str, rabbitmq_url: str, exchange: str) -> AsyncIterator[None]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.benchmarks.latency_contenders", name, exchange),
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": database_url, "RABBITMQ_URL": rabbitmq_url},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            if process.stdout is None or not await process.stdout.readline():
                message = f"the benchmark's {name} did not start"
                raise RuntimeError(message)
            yield
        finally:
            process.kill()
            await process.wait()

    return running


Insert = Callable[[Tx, UUID, str, str, str], Awaitable[None]]
Running = Callable[[str, str, str], AbstractAsyncContextManager[None]]
CONTENDERS: Final[dict[str, tuple[Insert, Running]]] = {
    ROLLCALL: (_insert, _rollcall),
    BARE: (_insert, _other(BARE)),
    FASTSTREAM_OUTBOX: (_insert_foreign, _other(FASTSTREAM_OUTBOX)),
}


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
