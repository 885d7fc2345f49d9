"""One run from the first started process to the checked books."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, Final

import uvloop
from pydantic import SecretStr

from contracts.channels import EVENTS, MEMBER_CHANGES, WEBHOOKS
from deploy.demo.change_chapter import ChangeChapter
from deploy.demo.clock_chapter import ClockChapter
from deploy.demo.clock_desk import ClockDesk
from deploy.demo.clock_scenario import IN_DIRECTORY
from deploy.demo.clubs import add_directory, add_synced_directory, add_timed_club, add_webhook_sources
from deploy.demo.directory_server import DirectoryServer, can_run, running_directory
from deploy.demo.evidence import Evidence
from deploy.demo.hooked_system import running_hooked_system
from deploy.demo.scenario import build_scenario
from deploy.demo.screen import Screen
from deploy.demo.second_instance import SecondInstance, running_instance
from deploy.demo.sync_chapter import SyncChapter
from deploy.demo.sync_desk import SyncDesk
from deploy.demo.sync_scenario import MEMBERS
from deploy.demo.told_chapter import ToldChapter
from deploy.demo.told_desk import ToldDesk
from deploy.demo.trace_chapter import TraceChapter, recorded_tracing
from deploy.demo.verdict import Verdict
from deploy.demo.watching import LOOK_SECONDS, end, raise_what_failed
from deploy.demo.webhook_chapter import WebhookChapter
from deploy.demo.webhook_scenario import build_webhooks
from deploy.demo.webhook_sources import check_libraries, load_libraries
from deploy.local_stack import LocalStack, Origin, local_stack
from service.clients.events import listening_to_events
from service.domain.addresses import LOOPBACK
from service.domain.errors import RollcallError
from service.entrypoints.loops.notifier import NotifierOptions
from service.settings import Settings, load_settings
from service.store.migrate import migrate
from service.telemetry.logs import configure_logs
from service.telemetry.tracing import Tracing
from service.wiring.process import Process, Role
from service.wiring.resources import declared_topology

__all__ = ["perform", "tell"]

_START_SECONDS: Final = 30.0
_DRAIN_SECONDS: Final = 10.0
# Nobody watches for the five seconds, and then minutes, that subscribers are given by default.
_IMPATIENT: Final = NotifierOptions(delays=(timedelta(seconds=0.3),) * 200, poll=timedelta(seconds=0.1))


class NotReady(RollcallError):
    """The service did not come up in time; the text says what it lacks."""


def perform(database_url: str | None, rabbitmq_url: str | None) -> bool:
    """Run the demo and answer whether its books balance; on a given server it uses a database and a vhost of its own.

    Raises StackUnavailable and RollcallError, whose texts are for the user; SIGTERM ends it with SystemExit.
    """
    check_libraries()
    screen = Screen()
    screen.step("Starting PostgreSQL and RabbitMQ")
    began = time.monotonic()
    with _log_file(screen) as log, _secrets_dir() as secrets_dir, ThreadPoolExecutor(1) as beside, _directory() as directory:
        # They take a second or two, while the servers start; they are wanted late, as the directory is.
        libraries = beside.submit(load_libraries)
        with local_stack(screen.say, database_url=database_url, rabbitmq_url=rabbitmq_url) as stack:
            screen.say(f"Both answer after {time.monotonic() - began:.1f} s")
            # The handler keeps the stderr that it finds: the screen is for people.
            with contextlib.redirect_stderr(log.stream):
                configure_logs("json", "info")
            try:
                balanced = uvloop.run(_perform(stack, screen, secrets_dir, libraries, directory, log.stream))
            except asyncio.CancelledError:
                raise SystemExit(128 + signal.SIGTERM) from None
            log.wanted = not balanced
    return balanced


def _directory() -> AbstractContextManager[DirectoryServer | None]:
    return running_directory() if can_run() else nullcontext()


@contextmanager
def _secrets_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rollcall-demo-") as folder:
        yield Path(folder)


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


async def _perform(
    stack: LocalStack,
    screen: Screen,
    secrets_dir: Path,
    libraries: Future[None],
    server: DirectoryServer | None,
    log: IO[str],
) -> bool:
    if (this := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    screen.step("Starting Rollcall: worker, relay and edge, in this process")
    began = time.monotonic()
    settings = load_settings(
        database_url=stack.database_url,
        database_listen_url=None,
        rabbitmq_url=stack.rabbitmq_url,
        host="127.0.0.1",
        port=0,
        secrets_dir=secrets_dir,
        # What somebody's shell asks of a service of theirs is not meant for this one.
        django_base_url=None,
        grace_days=0,
        cron_enabled=True,
        sync_enabled=True,
    )
    # What the demo asks and calls is on this machine.
    settings = settings.model_copy(update={"allow_networks": LOOPBACK, "cron_secret": SecretStr(secrets.token_urlsafe(24))})
    tracing, recorded = recorded_tracing(settings)
    await migrate(stack.database_url)
    await declared_topology(settings)
    async with Evidence.connected(stack.database_url, stack.rabbitmq_url) as evidence:
        await evidence.check_vhost_is_idle()
        directory = await add_directory(stack.database_url)
        sources = await add_webhook_sources(stack.database_url, secrets_dir)
        scenario = build_scenario(directory.company, directory.connection, datetime.now(UTC))
        try:
            # Bound before anything is sent: a queue gets nothing that was published before.
            async with (
                listening_to_events(stack.rabbitmq_url, directory.company) as events,
                _serving(settings, evidence, tracing) as (process, running),
            ):
                screen.say(f"Ready after {time.monotonic() - began:.1f} s; a queue of the demo's own is bound to {EVENTS.name}")
                changes = ChangeChapter(directory.company, scenario, process, evidence, screen)
                verdicts = [await changes.perform(stack.rabbitmq_url, events, running)]
                if verdicts[0].faults:
                    return tell(screen, verdicts)
                await asyncio.wrap_future(libraries)
                # Signed now: what is older than five minutes nobody believes.
                posted = build_webhooks(sources.by_connection, datetime.now(UTC))
                webhooks = WebhookChapter(sources.company, posted, process, evidence, screen)
                verdicts.append(await webhooks.perform(stack.rabbitmq_url, running))
                # It starts while a directory is synced: the books before are of what this process did alone.
                async with running_instance(settings, log) as other:
                    if server is None:
                        screen.chapter("No directory is synced: the demo's lives in the project's tests, which are not here")
                    else:
                        verdicts.append(await _sync(stack, secrets_dir, server, evidence, screen, running))
                    verdicts.append(await _pass_time(settings, server, other, process, evidence, screen, running))
                verdicts.append(await _tell_others(settings, secrets_dir, evidence, screen, running))
                verdicts.append(await TraceChapter(process, recorded, sources, screen).perform(stack.rabbitmq_url))
                return tell(screen, verdicts)
        finally:
            if stack.rabbitmq.origin is Origin.EXPLICIT:
                await evidence.purge()


async def _sync(
    stack: LocalStack, secrets_dir: Path, server: DirectoryServer, evidence: Evidence, screen: Screen, running: asyncio.Task[None]
) -> Verdict:
    key = secrets.token_urlsafe(24)
    await server.begin(MEMBERS, key)
    directory = await add_synced_directory(stack.database_url, secrets_dir, f"{server.url}/cursor", key)
    async with SyncDesk.opened(stack.database_url, directory.connection) as desk:
        return await SyncChapter(directory, server, desk, evidence, screen).perform(stack.rabbitmq_url, running)


async def _pass_time(
    settings: Settings,
    server: DirectoryServer | None,
    other: SecondInstance,
    process: Process,
    evidence: Evidence,
    screen: Screen,
    running: asyncio.Task[None],
) -> Verdict:
    if settings.secrets_dir is None or settings.cron_secret is None:
        raise ValueError("the demo's settings have a folder of secrets, and one of ticks")
    key, url = secrets.token_urlsafe(24), None
    database_url = settings.database_url.get_secret_value()
    if server is not None:
        await server.begin(IN_DIRECTORY, key)
        url = f"{server.url}/cursor"
    club = await add_timed_club(database_url, settings.secrets_dir, url, key)
    async with ClockDesk.opened(database_url, club.company) as desk:
        chapter = ClockChapter(club, desk, other, process, settings.cron_secret.get_secret_value(), evidence, screen)
        return await chapter.perform(settings.rabbitmq_url.get_secret_value(), running)


async def _tell_others(
    settings: Settings, secrets_dir: Path, evidence: Evidence, screen: Screen, running: asyncio.Task[None]
) -> Verdict:
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
    with running_hooked_system(secret) as system:
        async with ToldDesk.opened(settings.database_url.get_secret_value()) as desk:
            chapter = ToldChapter(desk, system, evidence, screen)
            subscribe = partial(desk.subscribe, settings, secrets_dir, system.url, secret)
            return await chapter.perform(settings.rabbitmq_url.get_secret_value(), subscribe, running)


def tell(screen: Screen, verdicts: Sequence[Verdict]) -> bool:
    """Say how it went, and answer whether the books of every chapter balance."""
    if wrong := [fault for verdict in verdicts for fault in verdict.faults]:
        screen.verdict(f"The books do not balance: {'; '.join(wrong)}.", good=False)
        return False
    screen.verdict("The books balance: lost 0, out of order 0.", good=True)
    for verdict in verdicts:
        screen.say(verdict.sentence)
    screen.where_next()
    return True


@asynccontextmanager
async def _serving(settings: Settings, evidence: Evidence, tracing: Tracing) -> AsyncIterator[tuple[Process, asyncio.Task[None]]]:
    """The whole service from ready to drained, and the task that it runs in; raises NotReady, and what it failed with."""
    stop = asyncio.Event()
    # Without a ticker: its first books are of changes and webhooks, and what time does would come on top of them.
    process = Process(settings, [Role.WORKER, Role.EDGE, Role.RELAY], tracing=tracing, notifier_options=_IMPATIENT)
    running = asyncio.create_task(process.run(stop), name="service")
    try:
        deadline = time.monotonic() + _START_SECONDS
        while lacking := await _lacking(process, evidence):
            raise_what_failed([running])
            if time.monotonic() > deadline:
                message = f"the service is not ready after {_START_SECONDS:.0f} s: {lacking}"
                raise NotReady(message)
            await asyncio.sleep(LOOK_SECONDS / 4)
        yield process, running
    finally:
        stop.set()
        await asyncio.wait({running}, timeout=_DRAIN_SECONDS)
        await end([running])


async def _lacking(process: Process, evidence: Evidence) -> str:
    """What the service still lacks; the broker is asked first: what it says holds for whoever sends."""
    for family in (MEMBER_CHANGES, WEBHOOKS):
        if not await evidence.consumed(family):
            return f"nothing consumes {family.main.name} yet"
    return "; ".join(f"{role}: {problem}" for role, problem in (await process.problems()).items())
