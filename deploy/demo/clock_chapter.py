"""The fourth chapter: what time does by itself, on two instances that are told a hundred times at once that it is time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

import httpx

from contracts.channels import SCHEDULE_TICK
from contracts.envelope import Envelope
from contracts.schedule_tick import ScheduleTickV1
from deploy.demo.clock_books import SCHEDULED, ClockBooks, clock_entries
from deploy.demo.clock_desk import ClockDesk, Job
from deploy.demo.clock_scenario import ENDING, IN_DIRECTORY, MADE, PLANNED, RENEWED, TICKS
from deploy.demo.clubs import TimedClub
from deploy.demo.evidence import Evidence
from deploy.demo.screen import Screen
from deploy.demo.second_instance import SecondInstance
from deploy.demo.subscriber import Subscriber
from deploy.demo.verdict import Verdict, faults
from deploy.demo.watching import end, rest_of, until_at_rest
from service.actions.apply_due import DueCount
from service.actions.apply_plan_changes import PLAN_CHANGES
from service.actions.expire_memberships import EXPIRY
from service.actions.request_sync import DIRECTORY_SYNC
from service.clients.events import listening_to_events
from service.clients.inbound import InboundPublisher
from service.domain.jobs import ENDED, JobId
from service.wiring.process import Process

__all__ = ["ClockChapter"]

_SECONDS: Final = 30.0
# The log line of a pass over the plans.
_PLANS_DONE: Final = "plan changes done"


@dataclass(slots=True)
class ClockChapter:
    """A club, two instances of the service, and what a subscriber heard of what time did."""

    club: TimedClub
    desk: ClockDesk
    other: SecondInstance
    process: Process
    cron_secret: str = field(repr=False)
    evidence: Evidence
    screen: Screen
    subscriber: Subscriber = field(default_factory=Subscriber)

    async def perform(self, rabbitmq_url: str, running: asyncio.Task[None]) -> Verdict:
        """Let time do its work, check and tell; raises what the service fails with meanwhile."""
        self.screen.chapter("What time does: memberships end, plans begin, an interval is over")
        began = time.monotonic()
        async with listening_to_events(rabbitmq_url, self.club.company) as events:
            tasks = [running, asyncio.create_task(self.subscriber.listen(events), name="listen")]
            try:
                ends_at = await self._prepare()
                plans, missing = await self._begin_plans(tasks)
                await self.desk.until(ends_at)
                ticks = await self._tick(rabbitmq_url)
                missing = missing or await until_at_rest(self._look, tasks)
            finally:
                await end(tasks[1:])
        await self._tell_of_ticks()
        elsewhere, status = self.other.did(_PLANS_DONE, plans), await self.other.stop()
        books = ClockBooks(
            ticks=ticks,
            jobs=await self.desk.jobs(),
            elsewhere=elsewhere,
            twice=await self.desk.twice(),
            in_directory=self._in_directory,
            members=await self.desk.members(),
            stored=await self.evidence.stored(self.club.company),
            subscriber=self.subscriber,
            status=status,
        )
        lines = clock_entries(books)
        self.screen.books(lines, "The books of the clock")
        what = f"{TICKS} ticks at once began {len(_scheduled(books.jobs))} jobs, two instances {len(PLANNED)} plans"
        return Verdict(f"{what}: each once, in {time.monotonic() - began:.1f} s", faults(lines, missing))

    @property
    def _in_directory(self) -> int:
        return 0 if self.club.connection is None else IN_DIRECTORY

    async def _prepare(self) -> datetime:
        """Everybody joins, and the other instance is waited for; answers when the memberships end."""
        if self.club.connection is not None:
            await self.desk.sync_again_and_again(self.club.connection)
        ends_at = await self.desk.add_members()
        await self.desk.renew()
        await self.desk.plan()
        ending = f"{len(ENDING)} end at {ends_at:%H:%M:%S}, {len(RENEWED)} renew"
        self.screen.done(f"{MADE} members join", f"{ending}; {len(PLANNED)} plans for today")
        began = time.monotonic()
        await self.other.ready()
        waited = time.monotonic() - began
        self.screen.done("a second instance", f"in a process of its own, after {waited:.1f} s more")
        return ends_at

    async def _begin_plans(self, tasks: Collection[asyncio.Task[None]]) -> tuple[Sequence[JobId], str]:
        """Both instances look for plans at the same moment."""
        jobs = await self.desk.begin_plans_twice()
        missing = await until_at_rest(self._look_at_jobs, tasks)
        passes = [job.result or {} for job in await self.desk.jobs() if job.kind == PLAN_CHANGES]
        for name, one in zip(("a pass over the plans", "another at that moment"), passes, strict=False):
            self.screen.done(name, f"{one.get(DueCount.APPLIED, 0)} begun, {_left(one)} left to the other")
        return jobs, missing

    async def _tick(self, rabbitmq_url: str) -> int:
        """A hundred at the same moment, half of them over HTTP; answers how many were taken."""
        headers = {"authorization": f"Bearer {self.cron_secret}"}
        url = f"http://127.0.0.1:{self.process.http.port}"
        # No proxy of the environment stands before this very process.
        async with (
            InboundPublisher.connected(rabbitmq_url) as publisher,
            httpx.AsyncClient(base_url=url, timeout=_SECONDS, trust_env=False, headers=headers) as client,
        ):

            async def post() -> bool:
                return (await client.post("/api/cron")).status_code == HTTPStatus.OK

            async def publish() -> bool:
                now, tick_id = datetime.now(UTC), str(uuid4())
                envelope = Envelope(id=tick_id, source="urn:rollcall:demo", type=SCHEDULE_TICK.message_type, time=now)
                await publisher.publish(SCHEDULE_TICK, envelope, ScheduleTickV1(scheduled_for=now, origin="demo").to_json())
                return True

            taken = await asyncio.gather(*(post() if number % 2 else publish() for number in range(TICKS)))
        return sum(taken)

    async def _tell_of_ticks(self) -> None:
        begun = _scheduled(await self.desk.jobs())
        self.screen.done(f"{TICKS} ticks at once", f"{len(begun)} slots are due, and begin {len(begun)} jobs")
        expired = _told(begun, EXPIRY, DueCount.APPLIED)
        self.screen.done("memberships end", f"{expired} expired; {len(RENEWED)} were renewed and stay")
        if self.club.connection is not None:
            added, again_at = _told(begun, DIRECTORY_SYNC, "added"), await self.desk.next_sync(self.club.connection)
            self.screen.done("every 5 minutes a sync", f"{added} added; the next one at {again_at:%H:%M:%S} UTC")

    async def _look(self) -> str:
        stored, jobs = await self.evidence.stored(self.club.company), await self.desk.jobs()
        begun = {job.kind for job in _scheduled(jobs)}
        expected = {*SCHEDULED, *([DIRECTORY_SYNC] if self.club.connection is not None else [])}
        return rest_of(
            {
                "schedules that no tick began": len(expected - begun),
                "jobs not ended": _not_ended(jobs),
                "events in the outbox": stored.outbox,
                "events not delivered": stored.audited - self.subscriber.delivered,
            }
        )

    async def _look_at_jobs(self) -> str:
        return rest_of({"jobs not ended": _not_ended(await self.desk.jobs())})


def _not_ended(jobs: Sequence[Job]) -> int:
    return sum(job.state not in ENDED for job in jobs)


def _scheduled(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if job.schedule_id is not None]


def _told(jobs: Sequence[Job], kind: str, count: str) -> int:
    return sum((job.result or {}).get(count, 0) for job in jobs if job.kind == kind)


def _left(result: Any) -> int:
    """Members that a pass found and that the other one had, or had had."""
    return int(result.get(DueCount.TOTAL_FOUND, 0)) - int(result.get(DueCount.APPLIED, 0))
