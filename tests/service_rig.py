"""What the end-to-end tests stand on: upstreams that publish, subscribers that count, and `rollcall run` as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import aio_pika
import asyncpg

from contracts.channels import EVENTS, JOBS, MEMBER_CHANGED, MEMBER_CHANGES, NOTIFICATIONS, TICKS, WEBHOOKS
from contracts.envelope import Envelope
from service.clients.inbound import InboundPublisher
from service.clients.topology import declare_topology
from service.domain.change import SOURCE_FIELDS, VersionKind
from service.store.companies import insert_company
from service.store.connections import insert_connection
from service.store.database import Database

UPDATED_AT = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A connection of a company, and the messages that its source would send."""

    company_id: UUID
    connection_id: UUID

    @classmethod
    async def register(cls, database_url: str, version_kind: VersionKind = VersionKind.SEQUENCE) -> Self:
        db = await Database.connect(database_url, name="test", size=1)
        try:
            async with db.transaction() as tx:
                company = await insert_company(tx, f"company {uuid4()}", "UTC", None)
                connection = await insert_connection(tx, company.id, "source", "stream", version_kind, sorted(SOURCE_FIELDS))
        finally:
            await db.close()
        return cls(company.id, connection.id)

    def upsert(self, external_id: str, version: int, **member: Any) -> dict[str, Any]:
        return {**self._body(external_id, version, "upsert"), "member": {"name": f"Member {external_id}", **member}}

    def remove(self, external_id: str, version: int) -> dict[str, Any]:
        return self._body(external_id, version, "remove")

    def _body(self, external_id: str, version: int, action: str) -> dict[str, Any]:
        return {
            "companyId": str(self.company_id),
            "connectionId": str(self.connection_id),
            "externalId": external_id,
            "action": action,
            "version": version,
            "updatedAt": UPDATED_AT.isoformat(),
        }


def envelope(message_id: str | None = None) -> Envelope:
    return Envelope(id=message_id or str(uuid4()), source="tests", type=MEMBER_CHANGED.message_type, time=UPDATED_AT)


async def publish(publisher: InboundPublisher, bodies: Iterable[dict[str, Any] | bytes], *, window: int = 100) -> None:
    """Publish in order, `window` unconfirmed at a time."""
    pending = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
    for start in range(0, len(pending), window):
        await asyncio.gather(*(publisher.publish(MEMBER_CHANGED, envelope(), body) for body in pending[start : start + window]))


@asynccontextmanager
async def clean_broker(url: str) -> AsyncIterator[Any]:
    """A channel on a vhost whose queues are there and empty, before and after."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await declare_topology(channel)
        await purge(channel)
        yield channel
        await purge(channel)


async def empty(url: str) -> None:
    """Make the queues of a vhost be there, with nothing in them."""
    async with clean_broker(url):
        pass


async def purge(channel: Any) -> None:
    for queue in (*MEMBER_CHANGES.queues, *WEBHOOKS.queues, *JOBS.queues, *TICKS.queues, *NOTIFICATIONS.queues):
        await (await channel.get_queue(queue.name, ensure=False)).purge()


async def depth(channel: Any, name: str) -> int:
    """How many messages are ready in a queue."""
    queue = await channel.declare_queue(name, passive=True)
    return int(queue.declaration_result.message_count)


@dataclass(slots=True)
class Subscriber:
    """All events from its start on, kept as a subscriber should: the greatest version of each member.

    `received` is every (member, version) that ever came. A broker that was killed hands out what it takes back in no order, so
    that a version may come after a later one (`overtaken`): it came, and its effect is part of the later one's.
    """

    received: set[tuple[str, int]] = field(default_factory=set)
    events: list[dict[str, Any]] = field(default_factory=list)
    traceparents: list[str | None] = field(default_factory=list)
    latest: dict[str, dict[str, Any]] = field(default_factory=dict)
    repeats: int = 0
    overtaken: int = 0
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, message: Any) -> None:
        event = json.loads(message.body)
        member, version = event["memberId"], event["version"]
        known = self.latest.get(member, {"version": 0})["version"]
        if (member, version) in self.received:
            self.repeats += 1
        elif version < known:
            self.overtaken += 1
        self.received.add((member, version))
        if version > known:
            self.latest[member] = event
            self.events.append(event)
            self.traceparents.append(message.headers.get("traceparent"))
        self._more.set()

    async def receive(self, more: int, *, within: float) -> None:
        """Wait for so many that never came before."""
        goal = len(self.received) + more
        await self.until(lambda seen: len(seen.received) >= goal, within=within)

    async def until(self, condition: Callable[[Self], bool], *, within: float) -> None:
        async with asyncio.timeout(within):
            while not condition(self):
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def subscriber(url: str, seen: Subscriber | None = None, name: str | None = None) -> AsyncIterator[Subscriber]:
    """A durable quorum queue of its own on the events; it outlives a broker that is killed, and so does its consumer."""
    seen = Subscriber() if seen is None else seen
    name = name or f"subscriber-{uuid4().hex[:12]}"
    connection = await aio_pika.connect_robust(url, reconnect_interval=0.5)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=500)
        await channel.declare_exchange(EVENTS.name, EVENTS.kind, durable=True)
        queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(EVENTS.name, "membership.updated.#")

        async def on_message(message: Any) -> None:
            seen.take(message)
            await message.ack()

        await queue.consume(on_message)
        yield seen
        await queue.delete(if_unused=False, if_empty=False)


@dataclass(slots=True)
class Books:
    """What the database holds."""

    members: int
    audited: int
    taken_in: int
    outbox: int


async def books(database_url: str) -> Books:
    connection = await asyncpg.connect(database_url)
    try:
        counts = [await connection.fetchval(f"select count(*) from {table}") for table in ("members", "member_events", "inbox")]
        # What a tick has begun by itself just before the end waits there too, rightly.
        events = await connection.fetchval("select count(*) from outbox where type = 'MEMBERSHIP_UPDATED'")
        return Books(*counts, events)
    finally:
        await connection.close()


async def broken_histories(database_url: str) -> int:
    """Members whose audit is not versions 1..n, n being the row's."""
    connection = await asyncpg.connect(database_url)
    try:
        return int(
            await connection.fetchval(
                """
                select count(*) from members m
                left join (
                    select member_id, count(*) as versions, min(version) as first, max(version) as last
                    from member_events group by member_id
                ) e on e.member_id = m.id
                where (coalesce(e.versions, 0), coalesce(e.first, 1), coalesce(e.last, 0))
                    is distinct from (m.version, 1, m.version)
                """
            )
        )
    finally:
        await connection.close()


class RunningService:
    """`rollcall run …` as a process of its own, with its log."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def logs(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    @property
    def output(self) -> str:
        return self._log.read_text()

    async def says(self, event: str, *, within: float = 30) -> dict[str, Any]:
        """The first log line of that event, as soon as it is there."""
        async with asyncio.timeout(within):
            while True:
                for line in self.logs:
                    if line["event"] == event:
                        return line
                assert self.process.returncode is None, self.output
                await asyncio.sleep(0.05)

    async def port(self) -> int:
        return int((await self.says("rollcall starts"))["port"])

    def kill(self) -> None:
        self.process.kill()

    async def terminate(self, *, within: float = 40) -> int:
        """SIGTERM; answers the exit status."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(within):
            return await self.process.wait()


@asynccontextmanager
async def running_service(database_url: str, rabbitmq_url: str, *roles: str, **environment: str) -> AsyncIterator[RunningService]:
    """`python -m service run ROLES`, killed in the end if it still runs."""
    async with running_module(database_url, rabbitmq_url, "service", "run", *roles, **environment) as service:
        yield service


@asynccontextmanager
async def running_module(
    database_url: str, rabbitmq_url: str, module: str, *arguments: str, **environment: str
) -> AsyncIterator[RunningService]:
    """`python -m MODULE ARGUMENTS` with what a service needs to know, killed in the end if it still runs."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                env={
                    **os.environ,
                    "DATABASE_URL": database_url,
                    "RABBITMQ_URL": rabbitmq_url,
                    "PORT": "0",
                    "LOG_FORMAT": "json",
                    **environment,
                },
                stdout=output,
                stderr=output,
            )
        service = RunningService(process, log)
        try:
            yield service
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def outcomes(events: Iterable[dict[str, Any]]) -> Counter[str]:
    return Counter(event["newState"] for event in events)
