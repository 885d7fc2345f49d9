"""The first chapter: 2,000 changes of 600 people over the broker, watched until they have come to rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

from contracts.channels import MEMBER_CHANGED, MEMBER_CHANGES
from contracts.membership_updated import MembershipUpdatedV1
from deploy.demo.books import Books, astray, entries
from deploy.demo.evidence import Evidence
from deploy.demo.scenario import Message, Scenario
from deploy.demo.screen import Bar, Progress, Screen
from deploy.demo.subscriber import Subscriber
from deploy.demo.verdict import Verdict, faults
from deploy.demo.watching import end, rest_of, until_at_rest
from service.clients.inbound import InboundPublisher
from service.domain.member import CompanyId
from service.domain.outcome import Outcome
from service.wiring.process import Process

__all__ = ["ChangeChapter"]

_WINDOW: Final = 100
_SAID_EVERY: Final = 500


class ChangeChapter:
    """The messages on their way, and what became of them."""

    def __init__(self, company: CompanyId, scenario: Scenario, process: Process, evidence: Evidence, screen: Screen) -> None:
        self._company = company
        self._scenario = scenario
        self._process = process
        self._evidence = evidence
        self._subscriber = Subscriber()
        self._screen = screen
        self._sent = 0

    async def perform(self, rabbitmq_url: str, events: AsyncIterator[MembershipUpdatedV1], running: asyncio.Task[None]) -> Verdict:
        """Send, watch, check and tell; raises what the service fails with meanwhile."""
        self._screen.chapter(f"Sending {len(self._scenario.messages):,} changes of {len(self._scenario.standings)} invented people")
        began = time.monotonic()
        tasks = [
            asyncio.create_task(self._send(rabbitmq_url), name="send"),
            asyncio.create_task(self._subscriber.listen(events), name="listen"),
        ]
        try:
            with self._screen.following(_SAID_EVERY):
                missing = await until_at_rest(self._look, [*tasks, running])
        finally:
            await end(tasks)
        return await self._tell(missing, self._subscriber.last_at - began)

    async def _send(self, rabbitmq_url: str) -> None:
        """Over one channel, in windows of confirms: the broker takes them in this order."""
        async with InboundPublisher.connected(rabbitmq_url) as publisher:

            async def send(message: Message) -> None:
                await publisher.publish(MEMBER_CHANGED, message.envelope, message.body)
                self._sent += 1

            messages = self._scenario.messages
            for first in range(0, len(messages), _WINDOW):
                await asyncio.gather(*(send(message) for message in messages[first : first + _WINDOW]))

    async def _look(self) -> str:
        """Show how far it is, and answer what is not at rest yet."""
        total, ends = len(self._scenario.messages), self._process.outcomes
        stored, waiting = await self._evidence.stored(self._company), await self._evidence.waiting(MEMBER_CHANGES)
        parked = await self._evidence.parked_count(MEMBER_CHANGES)
        # What was refused or in conflict is settled when it is parked, as is what could not be read.
        settled = sum(count for end, count in ends.items() if end not in (Outcome.CONFLICT, Outcome.REFUSED)) + parked
        delivered = self._subscriber.delivered
        bars = (
            Bar("sent", self._sent, total),
            Bar("settled", settled, total),
            Bar("delivered", delivered, max(stored.audited, delivered, 1)),
        )
        said = f"changes settled, {delivered:,} events delivered"
        self._screen.show_events(Progress(bars, settled, total, said), self._subscriber.last, self._scenario.standings)
        return rest_of(
            {
                "changes not sent": total - self._sent,
                "sent but not settled": self._sent - settled,
                "in the queue": waiting,
                "events in the outbox": stored.outbox,
                "events not delivered": stored.audited - delivered,
            }
        )

    async def _tell(self, missing: str, seconds: float) -> Verdict:
        parked = await self._evidence.take_parked(MEMBER_CHANGES)
        members = await self._evidence.members(self._company)
        ends, expected = self._process.outcomes, self._scenario.expected
        books = Books(
            sent=self._sent,
            stored=await self._evidence.stored(self._company),
            parked=parked,
            duplicate=ends.get(Outcome.DUPLICATE, 0),
            stale=ends.get(Outcome.STALE, 0),
            delivered=self._subscriber.delivered,
            repeats=self._subscriber.repeats,
            out_of_order=self._subscriber.out_of_order,
            members=len(members),
            astray=astray(members, self._subscriber, self._scenario.standings),
        )
        lines = entries(books, expected, len(self._scenario.standings))
        self._screen.books(lines)
        self._screen.parked(parked)
        speed = f"{books.sent / seconds:,.0f} changes a second, end to end"
        return Verdict(
            f"{books.sent:,} changes became {books.delivered:,} events in {seconds:.1f} s: {speed}", faults(lines, missing)
        )
