"""The load that faults happen under: a source that sends changes at a steady rate, each until the broker has confirmed it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Self
from uuid import uuid4

import aio_pika
import asyncpg
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import ChannelInvalidStateError

from contracts.channels import EVENTS, MEMBER_CHANGED
from service.clients.inbound import InboundPublisher, NotDeliveredError
from service.domain.errors import Unavailable
from tests.chaos.ledger import Deliveries, Findings, Ledger, Stored, caught_up_after, compare, longest_wait
from tests.service_rig import Upstream, envelope, subscriber

_EVERY_SECONDS = 0.1
# As the rig's subscriber binds.
_BINDING = "membership.updated.#"
_SETTLED = """
select
    (select count(*) from inbox) as taken_in,
    (select count(*) from member_events) as audited,
    (select count(*) from outbox) as outbox
"""
_SEND_AGAIN = (Unavailable, NotDeliveredError, AMQPError, ChannelInvalidStateError, OSError)

Change = tuple[str, dict[str, Any]]


@dataclass(slots=True)
class Load:
    """Changes of `members` members, `rate` a second, and what came of them; at a rate of 0 only those that are sent by hand."""

    database_url: str
    broker_url: str
    queue: str
    upstream: Upstream
    seen: Deliveries
    rng: Random
    members: int
    rate: float
    ledger: Ledger = field(default_factory=Ledger)
    # Moments of the monotonic clock at which nothing was broken any more.
    mended_at: list[float] = field(default_factory=list)
    _versions: dict[str, int] = field(default_factory=dict)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _sent_until: float = field(default_factory=time.monotonic)
    _sending: asyncio.Task[None] | None = None

    def next_change(self, external_id: str, **member: Any) -> Change:
        """The member's next change and its id, put down as offered; `plan` alters with each, so that each has an effect."""
        version = self._versions[external_id] = self._versions.get(external_id, 0) + 1
        change = f"{external_id}-{version}-{uuid4().hex[:8]}"
        self.ledger.offer(change, external_id, version)
        return change, self.upstream.upsert(external_id, version, plan=f"plan {version}", **member)

    def mended(self) -> None:
        """From now on nothing keeps what was accepted from being delivered."""
        self.mended_at.append(time.monotonic())

    @property
    def recoveries(self) -> list[float]:
        """Seconds from each mended fault until all that had been accepted by then had been delivered."""
        return [caught_up_after(moment, self.ledger, self.seen) for moment in self.mended_at]

    def longest_wait(self, since: float = 0.0) -> float:
        """The most seconds from a change's confirm to its event, of those accepted since a moment of the monotonic clock."""
        return longest_wait(since, self.ledger, self.seen)

    async def run(self) -> None:
        """Send at the rate until stopped; no two of one member at once, so that one that is sent again overtakes nothing."""
        waiting: list[Change] = []
        while waiting or not self._stop.is_set():
            try:
                async with InboundPublisher.connected(self.broker_url) as publisher:
                    while waiting or not self._stop.is_set():
                        waiting = waiting or self._due_now()
                        while waiting:
                            waiting = await self._offer(publisher, waiting)
                        await self._tick()
            except _SEND_AGAIN:
                await asyncio.sleep(0.2)

    async def send(self, changes: Sequence[Change]) -> None:
        """Send these too, to a broker that is there."""
        async with InboundPublisher.connected(self.broker_url) as publisher:
            assert not await self._offer(publisher, changes)

    def _due_now(self) -> list[Change]:
        if not self.rate:
            return []
        now = time.monotonic()
        due = min(self.members, int((now - self._sent_until) * self.rate))
        self._sent_until = max(self._sent_until + due / self.rate, now - 1)
        return [self.next_change(str(number)) for number in self.rng.sample(range(self.members), due)]

    async def _tick(self) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), _EVERY_SECONDS)
        except TimeoutError:
            return

    async def _offer(self, publisher: InboundPublisher, changes: Sequence[Change]) -> list[Change]:
        async def one(change: Change) -> None:
            await publisher.publish(MEMBER_CHANGED, envelope(change[0]), json.dumps(change[1]).encode())
            self.ledger.accept(change[0])

        if not changes:
            return []
        outcomes = await asyncio.gather(*(one(change) for change in changes), return_exceptions=True)
        left = [change for change, outcome in zip(changes, outcomes, strict=True) if outcome is not None]
        if len(left) == len(changes):
            failure = next(outcome for outcome in outcomes if outcome is not None)
            # The client library says "cancelled" for a connection that was closed.
            raise ConnectionError if isinstance(failure, asyncio.CancelledError) else failure
        return left

    async def delivered(self, more: int = 100, *, within: float = 60) -> None:
        """Wait for so many events that never came before."""
        await self.seen.receive(more, within=within)

    async def caught_up(self, *, within: float = 60) -> None:
        """Wait until of each member the last that is accepted by now has been delivered: what was broken works again."""
        goal: dict[str, int] = {}
        for change in self.ledger.accepted.keys() - self.ledger.to_park:
            offered = self.ledger.offered[change]
            goal[offered.external_id] = max(offered.version, goal.get(offered.external_id, 0))
        await self.seen.until(lambda _: all(self._told(name) >= version for name, version in goal.items()), within=within)

    def _told(self, external_id: str) -> int:
        """The source version that the subscriber was last told of."""
        change = self.seen.last_change.get(external_id)
        return 0 if change is None else self.ledger.offered[change].version

    async def unbind(self) -> None:
        """Leave the events without a queue."""
        async with await aio_pika.connect(self.broker_url) as connection:
            queue = await (await connection.channel()).get_queue(self.queue)
            await queue.unbind(EVENTS.name, _BINDING)

    async def bind(self) -> None:
        """Let the subscriber's queue have the events again."""
        async with await aio_pika.connect(self.broker_url) as connection:
            queue = await (await connection.channel()).get_queue(self.queue)
            await queue.bind(EVENTS.name, _BINDING)

    async def stop(self) -> None:
        """Send no more than is begun."""
        self._stop.set()

    async def settle(self, *, within: float = 90) -> Findings:
        """Stop, wait until all has come to rest or no hope is left, and hold the books against each other."""
        await self.stop()
        if self._sending is not None:
            await self._sending
        try:
            async with asyncio.timeout(within):
                while not await self._is_at_rest():
                    await asyncio.sleep(0.2)
        except TimeoutError:
            print(f"not at rest after {within} s")
        return compare(self.ledger, await Stored.read(self.database_url), self.seen)

    async def _is_at_rest(self) -> bool:
        try:
            connection = await asyncpg.connect(self.database_url, timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        try:
            row = await connection.fetchrow(_SETTLED)
        finally:
            await connection.close()
        at_rest = row["taken_in"] >= self.ledger.to_apply and not row["outbox"] and len(self.seen.received) >= row["audited"]
        return bool(at_rest)

    @classmethod
    @asynccontextmanager
    async def on(cls, database_url: str, broker_url: str, rng: Random, *, members: int, rate: float) -> AsyncIterator[Self]:
        """A load that is running; the topology must be declared."""
        upstream = await Upstream.register(database_url)
        queue = f"subscriber-{uuid4().hex[:12]}"
        async with subscriber(broker_url, seen := Deliveries(), queue):
            load = cls(database_url, broker_url, queue, upstream, seen, rng, members, rate)
            sending = load._sending = asyncio.create_task(load.run())
            try:
                yield load
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
