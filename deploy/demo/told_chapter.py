"""The fifth chapter: a system that is told over HTTP and fails for a while, and rows that somebody edits past everything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from contracts.channels import EVENTS, drift_promoted_routing_key
from deploy.demo.evidence import Evidence
from deploy.demo.hooked_system import HookedSystem
from deploy.demo.screen import Screen
from deploy.demo.told_books import ToldBooks, told_entries
from deploy.demo.told_desk import ToldDesk
from deploy.demo.told_scenario import CHANGES, CHANGING, EDITED, JOIN
from deploy.demo.verdict import Verdict, faults
from deploy.demo.watching import rest_of, until_at_rest
from service.clients.amqp_connection import connected
from service.store.drift_runs import DriftRunRow

__all__ = ["ToldChapter"]

_SECONDS: Final = 10.0
# So often it is turned away before it comes back: more would only take longer.
_TURNED_AWAY: Final = 5


@dataclass(slots=True)
class ToldChapter:
    """A club, the system that is told of it, and what was found of rows that somebody edited."""

    desk: ToldDesk
    system: HookedSystem
    evidence: Evidence
    screen: Screen
    _runs: list[DriftRunRow] = field(default_factory=list, init=False)

    async def perform(self, rabbitmq_url: str, subscribe: Callable[[], Awaitable[None]], running: asyncio.Task[None]) -> Verdict:
        """Let it happen, check and tell; raises what the service fails with meanwhile."""
        self.screen.chapter("Others in step: a system is told over HTTP, and drift is found and healed")
        began = time.monotonic()
        # Bound before anything drifts: an event that no queue takes is kept, and would wait in the outbox.
        async with _promotions(rabbitmq_url) as promotions:
            await subscribe()
            missing = await self._tell(running) or await self._drift(promotions, running)
            told = await promotions()
        books = ToldBooks(
            system=self.system,
            stored=await self.evidence.stored(self.desk.company_id),
            runs=self._runs,
            promotions=told,
            edits_left=await self.desk.edits_left(),
            not_ended=await self.desk.not_ended(),
        )
        lines = told_entries(books)
        self.screen.books(lines, "The books of who was told, and of what drifted")
        what = f"{self.system.delivered} notifications in order, {len(EDITED)} rows healed"
        return Verdict(f"{what}, in {time.monotonic() - began:.1f} s", faults(lines, missing))

    async def _tell(self, running: asyncio.Task[None]) -> str:
        """The system takes, fails, and catches up; answers what is missing."""
        await self.desk.join()
        if missing := await until_at_rest(self._look, [running]):
            return missing
        self.screen.done(f"{JOIN} members join", f"{self.system.delivered} notifications, each verified by standardwebhooks")
        self.system.away = True
        await self.desk.change()
        if missing := await until_at_rest(self._look_away, [running]):
            return missing
        changed = f"{len(CHANGING) * CHANGES} changes of {len(CHANGING)} members meanwhile"
        self.screen.done("the system answers 503", f"{changed}: turned away {self.system.turned_away} times")
        before, began = self.system.delivered, time.monotonic()
        self.system.away = False
        if missing := await until_at_rest(self._look, [running]):
            return missing
        took = time.monotonic() - began
        self.screen.done("it answers again", f"{self.system.delivered - before} more in {took:.1f} s, in order per member")
        return ""

    async def _drift(self, promotions: Callable[[], Awaitable[int]], running: asyncio.Task[None]) -> str:
        """Rows are edited, found, told of and repaired; answers what is missing."""
        await self.desk.edit_behind_our_back()
        self.screen.done("somebody edits rows", f"{len(EDITED)} plans, by SQL: no version, no audit, no event")
        self._say("a drift run", await self._compare())
        self._say("another one", await self._compare())
        await self.desk.heal_from_now_on()
        self._say("healing switched on", await self._compare())
        self._say("the run after that", await self._compare())

        async def look() -> str:
            return await self._look() or rest_of({"messages of the drift": 1 - await promotions()})

        return await until_at_rest(look, [running])

    async def _compare(self) -> DriftRunRow:
        run = await self.desk.compare()
        self._runs.append(run)
        return run

    def _say(self, what: str, run: DriftRunRow) -> None:
        found = f"{run.verdict}: {run.out_of_sync} of {run.compared:,} differ"
        if run.promoted:
            found += "; told once: DRIFT_PROMOTED"
        elif run.healed:
            found += f"; {run.healed} repaired"
        self.screen.done(what, found)

    async def _look(self) -> str:
        stored = await self.evidence.stored(self.desk.company_id)
        return rest_of(
            {
                "events in the outbox": stored.outbox,
                "notifications on their way": await self.desk.not_ended(),
                "events that nobody was told of": stored.audited - self.system.delivered,
            }
        )

    async def _look_away(self) -> str:
        stored = await self.evidence.stored(self.desk.company_id)
        return rest_of(
            {
                "events in the outbox": stored.outbox,
                "events not written down": stored.audited - await self.desk.written_down(),
                "attempts that will be turned away": _TURNED_AWAY - self.system.turned_away,
            }
        )


@asynccontextmanager
async def _promotions(rabbitmq_url: str) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """How often drift was told of since now, by a queue that ends with its connection; raises Unavailable and aio_pika's errors."""
    async with connected(rabbitmq_url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(EVENTS.name, EVENTS.kind, durable=EVENTS.durable, timeout=_SECONDS)
        queue = await channel.declare_queue(exclusive=True, timeout=_SECONDS)
        await queue.bind(exchange, drift_promoted_routing_key(), timeout=_SECONDS)

        async def told() -> int:
            seen = await channel.declare_queue(queue.name, passive=True, timeout=_SECONDS)
            return seen.declaration_result.message_count or 0

        yield told
