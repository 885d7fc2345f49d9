"""What the database and the queues say, read as anybody could read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self
from uuid import UUID

import aio_pika
from aio_pika.abc import AbstractChannel

from contracts.channels import CHANNELS, Queue, QueueFamily, membership_updated_routing_key
from deploy.demo.scenario import CONFLICTING, MALFORMED, REFUSED
from service.domain.errors import RollcallError
from service.domain.member import CompanyId
from service.store.database import Database

__all__ = ["Evidence", "MemberRow", "Parked", "Stored", "VhostInUse"]

_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.05
_LOOKS: Final = 100
_REASON: Final = "x-rollcall-reason"
_QUEUES: Final = tuple(
    queue for channel in CHANNELS if channel.queue is not None and channel.consumed for queue in channel.queue.queues
)

_STORED: Final = """
select
    (select count(*) from inbox where connection_id in (select id from connections where company_id = $1)) as inbox,
    (select count(*) from member_events where company_id = $1) as audited,
    (select count(*) from outbox where routing_key = $2) as outbox
"""
_MEMBERS: Final = "select external_id, name, email, state, plan, expires_at, version from members where company_id = $1"
_TAKEN_IN: Final = """
select connection_id, message_id from inbox where connection_id in (select id from connections where company_id = $1)
"""


class VhostInUse(RollcallError):
    """There are messages or consumers in the broker's vhost that are not the demo's."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A company's rows in the tables that keep the books."""

    inbox: int
    audited: int
    outbox: int


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member as stored."""

    external_id: str | None
    name: str | None
    email: str | None
    state: str
    plan: str | None
    expires_at: datetime | None
    version: int


@dataclass(frozen=True, slots=True)
class Parked:
    """A parked message: to which end of the scenario it came, and the reason it was parked with."""

    end: str
    message_id: str
    reason: str


class Evidence:
    """Reads tables and queues over connections of its own."""

    def __init__(self, db: Database, channel: AbstractChannel) -> None:
        self._db = db
        self._channel = channel

    @classmethod
    @asynccontextmanager
    async def connected(cls, database_url: str, rabbitmq_url: str) -> AsyncIterator[Self]:
        """Connect to both; raises Unavailable and aio_pika's errors."""
        db = await Database.connect(database_url, name="rollcall demo", size=1)
        try:
            async with await aio_pika.connect(rabbitmq_url, timeout=_SECONDS) as connection:
                yield cls(db, await connection.channel())
        finally:
            await db.close()

    async def check_vhost_is_idle(self) -> None:
        """Raise VhostInUse where a queue of the topology holds messages or has a consumer: the counts would be wrong."""
        for queue in _QUEUES:
            messages, consumers = await self._count(queue)
            if messages or consumers:
                found = f"the queue {queue.name} is in use: {messages} waiting, {consumers} consumers"
                message = (
                    f"{found}. The demo counts what is in it, so give it a vhost of its own in RABBITMQ_URL, or empty the queue"
                )
                raise VhostInUse(message)

    async def stored(self, company: CompanyId) -> Stored:
        """How many rows a company has."""
        async with self._db.transaction() as tx:
            rows = await tx.fetch(_STORED, company, membership_updated_routing_key(company))
        return Stored(**rows[0])

    async def members(self, company: CompanyId) -> list[MemberRow]:
        """Every member of a company."""
        async with self._db.transaction() as tx:
            return [MemberRow(**row) for row in await tx.fetch(_MEMBERS, company)]

    async def taken_in(self, company: CompanyId) -> set[tuple[UUID, str]]:
        """The connection and the key of each message that a company's members were changed by, or could have been."""
        async with self._db.transaction() as tx:
            return {(row["connection_id"], row["message_id"]) for row in await tx.fetch(_TAKEN_IN, company)}

    async def waiting(self, family: QueueFamily) -> int:
        """How many messages no consumer has taken yet, those that wait for a retry among them."""
        return (await self._count(family.main))[0] + (await self._count(family.retry))[0]

    async def consumed(self, family: QueueFamily) -> bool:
        """Whether the broker knows of a consumer."""
        return (await self._count(family.main))[1] > 0

    async def parked_count(self, family: QueueFamily) -> int:
        """How many messages are parked."""
        return (await self._count(family.parked))[0]

    async def take_parked(self, family: QueueFamily) -> list[Parked]:
        """Fetch every parked message, and so empty the queue."""
        queue = await self._channel.get_queue(family.parked.name, ensure=False)
        found: list[Parked] = []
        for _ in range(await self.parked_count(family)):
            message = await queue.get(fail=False, timeout=_SECONDS)
            if message is None:
                break
            reason = str(message.headers.get(_REASON, "no reason given"))
            found.append(Parked(_end(reason), message.message_id or "?", reason))
            await message.ack()
        return found

    async def purge(self) -> None:
        """Empty the queues of the topology: what is in them was sent here, and they were empty before."""
        for queue in _QUEUES:
            # What a consumer held comes back as it goes, which may be a moment after its connection is closed.
            for _ in range(_LOOKS):
                if not (await self._count(queue))[1]:
                    break
                await asyncio.sleep(_LOOK_SECONDS)
            await (await self._channel.get_queue(queue.name, ensure=False)).purge(timeout=_SECONDS)

    async def _count(self, queue: Queue) -> tuple[int, int]:
        declared = await self._channel.declare_queue(queue.name, passive=True, timeout=_SECONDS)
        result = declared.declaration_result
        return result.message_count or 0, result.consumer_count or 0


def _end(reason: str) -> str:
    outcome = reason.partition(":")[0]
    return {"conflict": CONFLICTING, "refused": REFUSED}.get(outcome, MALFORMED)
