"""One run from the first started process to the checked books."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

import uvloop

from contracts.channels import EVENTS, MEMBER_CHANGED
from contracts.membership_updated import MembershipUpdatedV1
from deploy.demo.books import Books, astray, entries
from deploy.demo.evidence import Evidence
from deploy.demo.scenario import Message, Scenario, build_scenario
from deploy.demo.screen import Progress, Screen
from deploy.demo.subscriber import Subscriber
from deploy.local_stack import LocalStack, Origin, local_stack
from service.clients.events import listening_to_events
from service.clients.inbound import InboundPublisher
from service.domain.change import SOURCE_FIELDS, VersionKind
from service.domain.errors import RollcallError
from service.domain.member import CompanyId, ConnectionId
from service.domain.outcome import Outcome
from service.settings import Settings, load_settings
from service.store.companies import insert_company
from service.store.connections import insert_connection
from service.store.database import Database
from service.store.migrate import migrate
from service.telemetry.logs import configure_logs
from service.wiring.process import Process, Role
from service.wiring.resources import declared_topology

__all__ = ["perform"]

_START_SECONDS: Final = 30.0
_SETTLE_SECONDS: Final = 60.0
_DRAIN_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.1
_WINDOW: Final = 100


class NotReady(RollcallError):
    """The service did not come up in time; the text says what it lacks."""


def perform(database_url: str | None, rabbitmq_url: str | None) -> bool:
    """Run the demo and answer whether its books balance; on a given server it uses a database and a vhost of its own.

    Raises StackUnavailable and RollcallError, whose texts are for the user; SIGTERM ends it with SystemExit.
    """
    screen = Screen()
    screen.step("Starting PostgreSQL and RabbitMQ")
    began = time.monotonic()
    with _log_file(screen) as log, local_stack(screen.say, database_url=database_url, rabbitmq_url=rabbitmq_url) as stack:
        screen.say(f"Both answer after {time.monotonic() - began:.1f} s")
        # The handler keeps the stderr that it finds: the screen is for people.
        with contextlib.redirect_stderr(log.stream):
            configure_logs("json", "info")
        try:
            balanced = uvloop.run(_perform(stack, screen))
        except asyncio.CancelledError:
            raise SystemExit(128 + signal.SIGTERM) from None
        log.wanted = not balanced
    return balanced


@dataclass(slots=True)
class _Log:
    """Where the service logs to; `wanted` when the run is over."""

    stream: IO[str]
    wanted: bool = True


@contextmanager
def _log_file(screen: Screen) -> Iterator[_Log]:
    """A log that stays, and is named, where something went wrong."""
    with tempfile.NamedTemporaryFile("w", prefix="rollcall-demo-", suffix=".log", encoding="utf-8", delete=False) as stream:
        path, log = Path(stream.name), _Log(stream)
        try:
            yield log
        except (KeyboardInterrupt, SystemExit):
            log.wanted = False
            raise
        finally:
            stream.flush()
            if log.wanted and path.stat().st_size:
                screen.say(f"What the service logged is in {path}")
            else:
                path.unlink()


async def _perform(stack: LocalStack, screen: Screen) -> bool:
    if (this := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    screen.step("Starting Rollcall: worker, relay and health server, in this process")
    began = time.monotonic()
    settings = load_settings(
        database_url=stack.database_url, database_listen_url=None, rabbitmq_url=stack.rabbitmq_url, host="127.0.0.1", port=0
    )
    await migrate(stack.database_url)
    await declared_topology(settings)
    async with Evidence.connected(stack.database_url, stack.rabbitmq_url) as evidence:
        await evidence.check_vhost_is_idle()
        company_id, connection_id = await _add_source(stack.database_url)
        scenario = build_scenario(company_id, connection_id, datetime.now(UTC))
        try:
            # Bound before anything is sent: a queue gets nothing that was published before.
            async with listening_to_events(stack.rabbitmq_url, company_id) as events, _serving(settings, evidence) as service:
                screen.say(f"Ready after {time.monotonic() - began:.1f} s; a queue of the demo's own is bound to {EVENTS.name}")
                screen.step(f"Sending {len(scenario.messages):,} changes of {len(scenario.standings)} invented people")
                run = _Run(scenario, service, evidence, Subscriber(), screen)
                return await run.to_the_end(stack.rabbitmq_url, events)
        finally:
            if stack.rabbitmq.origin is Origin.EXPLICIT:
                await evidence.purge()


async def _add_source(database_url: str) -> tuple[CompanyId, ConnectionId]:
    db = await Database.connect(database_url, name="rollcall demo", size=1)
    try:
        async with db.transaction() as tx:
            company = await insert_company(tx, "Demo Rowing Club", "UTC", 0)
            fields = sorted(SOURCE_FIELDS)
            source = await insert_connection(tx, company.id, "demo directory", "stream", VersionKind.SEQUENCE, fields)
    finally:
        await db.close()
    return company.id, source.id


@dataclass(frozen=True, slots=True)
class _Service:
    """The service, and the task that it runs in."""

    process: Process
    running: asyncio.Task[None]


@asynccontextmanager
async def _serving(settings: Settings, evidence: Evidence) -> AsyncIterator[_Service]:
    """The whole service from ready to drained; raises NotReady, and what it failed with."""
    stop = asyncio.Event()
    process = Process(settings, list(Role))
    running = asyncio.create_task(process.run(stop), name="service")
    try:
        deadline = time.monotonic() + _START_SECONDS
        while lacking := await _lacking(process, evidence):
            _raise_what_failed([running])
            if time.monotonic() > deadline:
                message = f"the service is not ready after {_START_SECONDS:.0f} s: {lacking}"
                raise NotReady(message)
            await asyncio.sleep(_LOOK_SECONDS / 4)
        yield _Service(process, running)
    finally:
        stop.set()
        await asyncio.wait({running}, timeout=_DRAIN_SECONDS)
        await _end([running])


async def _lacking(process: Process, evidence: Evidence) -> str:
    """What the service still lacks; the broker is asked first: what it says holds for whoever sends."""
    if not await evidence.consumed():
        return "nothing consumes member changes yet"
    return "; ".join(f"{role}: {problem}" for role, problem in (await process.problems()).items())


class _Run:
    """The messages on their way, watched until they have come to rest."""

    def __init__(self, scenario: Scenario, service: _Service, evidence: Evidence, subscriber: Subscriber, screen: Screen) -> None:
        self._scenario = scenario
        self._service = service
        self._evidence = evidence
        self._subscriber = subscriber
        self._screen = screen
        self._sent = 0

    async def to_the_end(self, rabbitmq_url: str, events: AsyncIterator[MembershipUpdatedV1]) -> bool:
        """Send, watch, check and tell; answers whether the books balance."""
        began = time.monotonic()
        tasks = [
            asyncio.create_task(self._send(rabbitmq_url), name="send"),
            asyncio.create_task(self._listen(events), name="listen"),
        ]
        try:
            with self._screen.following():
                missing = await self._watch([*tasks, self._service.running], began + _SETTLE_SECONDS)
        finally:
            await _end(tasks)
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

    async def _listen(self, events: AsyncIterator[MembershipUpdatedV1]) -> None:
        async for event in events:
            self._subscriber.take(event)

    async def _watch(self, tasks: Sequence[asyncio.Task[None]], deadline: float) -> str:
        """Show how far it is until nothing moves any more; answers what is missing at the deadline, or nothing."""
        at_rest = 0
        # Two looks: the first may fall between a commit and its event.
        while at_rest < 2:
            _raise_what_failed(tasks)
            missing = await self._look()
            at_rest = 0 if missing else at_rest + 1
            if missing and time.monotonic() > deadline:
                return missing
            await asyncio.sleep(_LOOK_SECONDS)
        return ""

    async def _look(self) -> str:
        """Show how far it is, and answer what is not at rest yet."""
        total, ends = len(self._scenario.messages), self._service.process.outcomes
        stored, waiting, parked = await self._evidence.stored(), await self._evidence.waiting(), await self._evidence.parked_count()
        # What was refused or in conflict is settled when it is parked, as is what could not be read.
        settled = sum(count for end, count in ends.items() if end not in (Outcome.CONFLICT, Outcome.REFUSED)) + parked
        delivered = self._subscriber.delivered
        progress = Progress(total, self._sent, settled, stored.audited, delivered)
        self._screen.show(progress, self._subscriber.last, self._scenario.standings)
        rest = {
            "changes not sent": total - self._sent,
            "sent but not settled": self._sent - settled,
            "in the queue": waiting,
            "events in the outbox": stored.outbox,
            "events not delivered": stored.audited - delivered,
        }
        return ", ".join(f"{count:,} {what}" for what, count in rest.items() if count > 0)

    async def _tell(self, missing: str, seconds: float) -> bool:
        parked = await self._evidence.take_parked()
        members = await self._evidence.members()
        ends, expected = self._service.process.outcomes, self._scenario.expected
        books = Books(
            sent=self._sent,
            stored=await self._evidence.stored(),
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
        wrong = [f"{line.name} is {line.found:,} and must be {line.expected:,}" for line in lines if not line.balances]
        if missing:
            wrong.insert(0, f"not at rest after {_SETTLE_SECONDS:.0f} s ({missing})")
        if wrong:
            self._screen.verdict(f"The books do not balance: {'; '.join(wrong)}.", good=False)
            return False
        self._screen.verdict("The books balance: lost 0, out of order 0.", good=True)
        speed = f"{books.sent / seconds:,.0f} changes a second, sender and subscriber included"
        self._screen.say(f"{books.sent:,} changes became {books.delivered:,} events in {seconds:.1f} s: {speed}")
        self._screen.where_next()
        return True


def _raise_what_failed(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel what still runs; what it failed with was raised where it mattered, or is overtaken by what is being raised."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
