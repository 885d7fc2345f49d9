"""How fast one worker applies member changes, beside a FastStream handler with a transaction per message and consuming alone.

Each contender is a process of its own on uvloop, with a migrated database of its own, on the worker's own durable quorum queue. It
is warmed up, stopped with SIGSTOP while the queue is filled, and let go: all start from the same full queue with everything open.
The broker's count of ready messages is the clock. It is read first when the stopped process has been given all that its prefetch
allows, and last when so many more were given out: as the prefetch is full both times, the difference is what was acked meanwhile,
and neither a start nor an end is part of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aio_pika
import asyncpg
import uvloop

from contracts.channels import MEMBER_CHANGES
from deploy.local_stack import create_database, drop_database
from service.clients.inbound import InboundPublisher
from tests.benchmarks import per_message
from tests.benchmarks.rounds import Series, interleaved
from tests.service_rig import Books, Upstream, books, clean_broker, publish

__all__ = ["CONTENDERS", "Applied", "Contender", "measure", "rate"]

MESSAGES = 6_000
# More than any prefetch: the queue must not run dry before the last reading.
MARGIN = 600
WARM_UP = 400
# A member's changes stay far from each other: in one batch they would be folded, and handlers side by side overtake each other.
VERSIONS = 4
ROLLCALL, PER_MESSAGE, RAW = "rollcall", "per_message", "raw"


@dataclass(frozen=True, slots=True)
class Contender:
    """A module to run with arguments; who applies leaves each message's rows, who does so in order every version's too."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    applies: bool = True
    keeps_order: bool = True


ALL: Final = {
    ROLLCALL: Contender(("service", "run", "worker")),
    PER_MESSAGE: Contender(("tests.benchmarks.apply", PER_MESSAGE), keeps_order=False),
    RAW: Contender(("tests.benchmarks.apply", RAW), applies=False),
}
CONTENDERS: Final = tuple(ALL)
RAW_PREFETCH = 500
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Applied:
    """Messages per second of each contender, and the sizes of all of Rollcall's transactions while it was measured."""

    rates: dict[str, Series]
    batches: tuple[int, ...]


async def measure(
    rounds: int, *, database_url: str, rabbitmq_url: str, messages: int = MESSAGES, say: Callable[[str], None] = print
) -> Applied:
    """Run each contender once a round; the database must be migrated, empty and free of connections, the vhost ours to fill."""
    batches: list[int] = []

    async def run(name: str) -> float:
        sizes: list[int] = []
        found = await rate(ALL[name], database_url=database_url, rabbitmq_url=rabbitmq_url, messages=messages, batches=sizes)
        if name == ROLLCALL:
            batches.extend(sizes)
        return found

    return Applied(await interleaved(CONTENDERS, rounds, run, say), tuple(batches))


async def rate(
    contender: Contender, *, database_url: str, rabbitmq_url: str, messages: int, batches: list[int] | None = None
) -> float:
    """Messages per second of one contender, once; puts the sizes of its transactions into `batches`."""
    own_database = create_database(database_url, template=database_url)
    try:
        async with clean_broker(rabbitmq_url) as channel:
            found = await _run(contender, channel, own_database, rabbitmq_url, messages)
        if batches is not None:
            batches.extend(await _batches(own_database))
        return found
    finally:
        drop_database(own_database)


async def _run(contender: Contender, channel: Any, database_url: str, rabbitmq_url: str, messages: int) -> float:
    upstream = await Upstream.register(database_url)
    total = messages + MARGIN
    async with (
        InboundPublisher.connected(rabbitmq_url) as publisher,
        _running(contender, database_url, rabbitmq_url) as process,
    ):
        queue = _Queue(channel, process)
        await queue.until(lambda _, consumers: consumers == 1, within=30)
        # Every connection and every statement is used, inserts first and then updates, before the clock runs.
        warm_up = list(_changes(upstream, "warm", WARM_UP))
        for start in range(0, WARM_UP, WARM_UP // VERSIONS):
            await publish(publisher, warm_up[start : start + WARM_UP // VERSIONS])
            await queue.until(lambda ready, _: ready == 0, within=60)
            await asyncio.sleep(0.2)
        process.signal(signal.SIGSTOP)
        await publish(publisher, _changes(upstream, "member", total), window=200)
        before = await queue.settled()
        started = time.perf_counter()
        process.signal(signal.SIGCONT)
        after = await queue.until(lambda ready, _: ready <= before - messages, within=300)
        seconds = time.perf_counter() - started
        await queue.until(lambda ready, _: ready == 0, within=60)
        if contender.applies:
            await process.until_written(database_url, WARM_UP + total)
        # Each finishes what it was given.
        await process.terminate()
    await _check(contender, channel, database_url, WARM_UP + total)
    return (before - after) / seconds


def _changes(upstream: Upstream, kind: str, count: int) -> Iterator[dict[str, Any]]:
    """Upserts of whole members: the first version of all of them, then the second, and so on."""
    members = -(-count // VERSIONS)
    for number in range(count):
        version, member = divmod(number, members)
        yield upstream.upsert(
            f"{kind}-{member}",
            version + 1,
            nationalId=f"{kind}{member:08}",
            name=f"Member {member}",
            email=f"{kind}.{member}@example.com",
            phone="+354 555 0101",
            state="active",
            plan=f"plan {version}",
            startsAt="2026-01-01T00:00:00Z",
            expiresAt=f"20{30 + version}-12-31T23:59:59Z",
            metadata={"branch": "north", "tags": ["board", version]},
        )


class _Queue:
    """What the broker says of the worker's queue, while the process that consumes lives."""

    def __init__(self, channel: Any, process: _Process) -> None:
        self._channel = channel
        self._process = process

    async def until(self, condition: Callable[[int, int], bool], *, within: float) -> int:
        """Wait for (ready messages, consumers) to fit, and answer the ready ones."""
        async with asyncio.timeout(within):
            while True:
                ready, consumers = await _look(self._channel)
                if condition(ready, consumers):
                    return ready
                self._process.check()
                await asyncio.sleep(0.01)

    async def settled(self) -> int:
        """How many are ready once a stopped consumer has been given all that its prefetch allows."""
        last, same = -1, 0
        async with asyncio.timeout(30):
            while same < 10:
                ready, _ = await _look(self._channel)
                last, same = ready, same + 1 if ready == last else 0
                await asyncio.sleep(0.02)
        return last


async def _look(channel: Any) -> tuple[int, int]:
    found = (await channel.declare_queue(MEMBER_CHANGES.main.name, passive=True)).declaration_result
    return int(found.message_count), int(found.consumer_count)


class _Process:
    """One contender and its log."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self._name = name
        self._process = process
        self._log = log

    def signal(self, number: signal.Signals) -> None:
        self.check()
        self._process.send_signal(number)

    def check(self) -> None:
        if self._process.returncode is not None:
            message = f"{self._name} ended with {self._process.returncode}\n{self._log.read_text()[-4000:]}"
            raise RuntimeError(message)

    async def until_written(self, database_url: str, total: int) -> None:
        """Wait until so many messages are taken in."""
        deadline = time.monotonic() + 60
        while (found := await books(database_url)).taken_in != total and time.monotonic() < deadline:
            self.check()
            await asyncio.sleep(0.1)
        if found.taken_in == total:
            return
        message = f"{self._name} was given {total} messages and wrote {found}\n{self._log.read_text()[-4000:]}"
        raise RuntimeError(message)

    async def terminate(self) -> None:
        """SIGTERM; it must drain and end well."""
        self.signal(signal.SIGTERM)
        async with asyncio.timeout(40):
            if await self._process.wait():
                self.check()


@asynccontextmanager
async def _running(contender: Contender, database_url: str, rabbitmq_url: str) -> AsyncIterator[_Process]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *contender.command,
                cwd=ROOT,
                env={
                    **os.environ,
                    "DATABASE_URL": database_url,
                    "RABBITMQ_URL": rabbitmq_url,
                    "HOST": "127.0.0.1",
                    "PORT": "0",
                    **contender.environment,
                },
                stdout=output,
                stderr=output,
            )
        try:
            yield _Process(" ".join(contender.command), process, log)
        finally:
            if process.returncode is None:
                process.kill()  # a stopped one too
                await process.wait()


async def _check(contender: Contender, channel: Any, database_url: str, total: int) -> None:
    """Every message acked, and where they were applied each is taken in and has its version, its audit and its event."""
    left = [await channel.declare_queue(queue.name, passive=True) for queue in MEMBER_CHANGES.queues]
    if any(queue.declaration_result.message_count for queue in left):
        message = f"{contender.command} left messages behind"
        raise RuntimeError(message)
    found = await books(database_url)
    # Handlers side by side let a change in a thousand be overtaken; a worker that commits in order lets none.
    versions = total if contender.keeps_order else min(max(found.audited, total * 99 // 100), total)
    if contender.applies and found != Books(found.members, audited=versions, taken_in=total, outbox=versions):
        message = f"{contender.command} was given {total} changes and wrote {found}"
        raise RuntimeError(message)


async def _batches(database_url: str) -> list[int]:
    """How many messages each of the worker's transactions took in, the warm-up's too."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("select count(*) from inbox group by xmin order by min(received_at)")
    finally:
        await connection.close()
    return [int(row[0]) for row in rows]


async def run_raw(rabbitmq_url: str) -> None:
    """Consume and ack until SIGTERM, and nothing else."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=RAW_PREFETCH)
        queue = await channel.get_queue(MEMBER_CHANGES.main.name, ensure=False)
        consumer = await queue.consume(_ack)
        await stop.wait()
        # All that was delivered came before the answer to this; then every callback has its turn before the timer has.
        await queue.cancel(consumer)
        await asyncio.sleep(0.5)


async def _ack(message: Any) -> None:
    await message.ack()


async def _contend(name: str) -> None:
    if name == RAW:
        await run_raw(os.environ["RABBITMQ_URL"])
    else:
        await per_message.run(os.environ["DATABASE_URL"], os.environ["RABBITMQ_URL"])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_contend(sys.argv[1]))
