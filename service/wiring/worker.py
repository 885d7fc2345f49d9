"""The worker: FastStream's consumers over the apply path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias

import structlog
from faststream.rabbit import Channel, RabbitBroker

from contracts.channels import JOBS, MEMBER_CHANGES, NOTIFICATIONS, TICKS, WEBHOOKS
from service.actions.apply_changes import apply_changes
from service.actions.enqueue_deliveries import enqueue_deliveries
from service.actions.find_webhook import LastKnown, find_webhook_mapping
from service.actions.gather_notifications import GatherNotifications
from service.actions.group_commit import GroupCommit
from service.actions.journal_attempts import AttemptJournal
from service.actions.run_job import JobOptions
from service.actions.running_job import JobKinds
from service.domain.change import Change
from service.domain.member import ConnectionId
from service.domain.notifications.subscriber import Told
from service.domain.outcome import Outcome, Result
from service.domain.webhooks.mapping import WebhookMapping
from service.entrypoints.consumers.failures import LoneHandling
from service.entrypoints.consumers.isolation import Isolation
from service.entrypoints.consumers.job_slots import JobSlots
from service.entrypoints.consumers.jobs import JobConsumer
from service.entrypoints.consumers.member_changes import member_changes_router
from service.entrypoints.consumers.notifications import notifications_router
from service.entrypoints.consumers.ticks import ticks_router
from service.entrypoints.consumers.webhooks import webhooks_router
from service.entrypoints.loops.backlog_watch import BacklogWatch
from service.entrypoints.loops.jobs_due import JobsDue
from service.entrypoints.loops.notification_bindings import NotificationBindings
from service.entrypoints.loops.notification_sweep import NotificationSweep
from service.entrypoints.loops.notifier import Notifier, NotifierOptions
from service.settings import Settings, load_settings, without_password
from service.store.database import Database
from service.telemetry.metric_names import CHANGES, Stage
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import NO_TRACING, Tracing
from service.wiring.consumption import Consumption
from service.wiring.directories import add_default_directory
from service.wiring.job_kinds import job_kinds
from service.wiring.notifications import opened_notifier
from service.wiring.resources import declared_topology, open_database
from service.wiring.schedules import add_schedules, run_due

__all__ = ["Worker", "worker_metrics"]

_PREFETCH: Final = 500
# The first two share a channel; each of the others has its own.
_CHANGE_FAMILIES: Final = (MEMBER_CHANGES, WEBHOOKS)
_FAMILIES: Final = (*_CHANGE_FAMILIES, JOBS, TICKS, NOTIFICATIONS)
_JOB_SLOTS: Final = 4
_CONNECT_SECONDS: Final = 10
_CANCELLED_WITHIN_SECONDS: Final = 0.5
_DOCUMENTED_URL: Final = "amqp://rabbitmq:5672/"

FindKinds: TypeAlias = Callable[[Settings, Database], JobKinds]

_log: Final = structlog.get_logger(__name__)


class Worker:
    """Consumers and what they need; started and stopped as one."""

    def __init__(
        self,
        settings: Settings | None,
        metrics: Metrics | None = None,
        tracing: Tracing = NO_TRACING,
        *,
        find_kinds: FindKinds | None = None,
        job_options: JobOptions | None = None,
        notifier_options: NotifierOptions | None = None,
    ) -> None:
        self._settings = settings
        self._tracing = tracing
        self._notifier_options = notifier_options
        self._notifier: Notifier | None = None
        self._bindings: NotificationBindings | None = None
        self._db: Database | None = None
        self._jobs_db: Database | None = None
        self._notifications_db: Database | None = None
        self._kinds: JobKinds = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._metrics = metrics if metrics is not None else worker_metrics()
        self._find_kinds: FindKinds = find_kinds or partial(job_kinds, metrics=self._metrics)
        self._changes = GroupCommit(self._apply, most=_PREFETCH, metrics=self._metrics, tracing=tracing)
        self._attempts = AttemptJournal(self._database)
        lone_handling = LoneHandling(self._attempts, Isolation())
        self.broker = RabbitBroker(
            settings.rabbitmq_url.get_secret_value() if settings else _DOCUMENTED_URL,
            timeout=_CONNECT_SECONDS,
            fail_fast=True,
            reconnect_interval=1.0,
            graceful_timeout=settings.shutdown_grace_seconds if settings else None,
            # What is published here is what is parked: confirmed, and unroutable is a failure.
            default_channel=Channel(on_return_raises=True),
            on_close=[_say_closed],
            on_reconnected=[_say_reconnected],
            # Its own log would show the text of errors, which may quote a member's data; ours says what happened to each.
            logger=None,
            # The decoders check every message against its contract; FastStream must not try again.
            apply_types=False,
        )
        self._mappings: LastKnown[WebhookMapping] = LastKnown(self._find_mapping, patient=True)
        # One channel for all, whose delivery tags are the order of arrival. Not the publishing one: what closes that one must not
        # cancel the handlers in flight.
        changes_channel = Channel(prefetch_count=_PREFETCH)
        self.broker.include_router(
            member_changes_router(
                self.broker, self._changes, lone_handling, channel=changes_channel, metrics=self._metrics, tracing=tracing
            )
        )
        self.broker.include_router(
            webhooks_router(
                self.broker,
                self._changes,
                self._mappings.find,
                lone_handling,
                channel=changes_channel,
                metrics=self._metrics,
                tracing=tracing,
            )
        )
        self._slots = JobSlots(
            self._jobs_database,
            lambda: self._kinds,
            most=_JOB_SLOTS,
            options=job_options or _job_options(settings),
            metrics=self._metrics,
            tracing=tracing,
        )
        # One at a time: to claim a job takes a moment, and what else were fetched would keep other workers from it.
        jobs_channel = Channel(prefetch_count=1)
        self._jobs = JobConsumer(
            self.broker, self._slots, lone_handling, channel=jobs_channel, metrics=self._metrics, tracing=tracing
        )
        self.broker.include_router(self._jobs.router)
        # One at a time: a second tick at the same moment finds nothing to do.
        ticks_channel = Channel(prefetch_count=1)
        self.broker.include_router(
            ticks_router(self.broker, self._run_due, lone_handling, channel=ticks_channel, metrics=self._metrics, tracing=tracing)
        )

        self._notifications = GatherNotifications(self._enqueue, self._wake_notifier, most=_PREFETCH, tracing=tracing)
        # What waits for the database here keeps no change waiting.
        notifications_channel = Channel(prefetch_count=_PREFETCH)
        self.broker.include_router(
            notifications_router(
                self.broker,
                self._notifications,
                lone_handling,
                channel=notifications_channel,
                metrics=self._metrics,
                tracing=tracing,
            )
        )
        self._consumption = Consumption(
            self.broker,
            {changes_channel: len(_CHANGE_FAMILIES), ticks_channel: 1, notifications_channel: 1},
            self._jobs,
            jobs_channel,
            queues=tuple(family.main.name for family in _FAMILIES),
        )

    async def open(self) -> None:
        """Everything but the consumers: the database, the topology, the group commit."""
        if self._settings is None:
            load_settings()  # raises what is wrong with the environment
            return
        self._db = await open_database(self._settings, "worker")
        await add_default_directory(self._settings, self._db)
        await add_schedules(self._settings, self._db)
        self._jobs_db = await open_database(self._settings, "jobs")
        self._kinds = self._find_kinds(self._settings, self._jobs_db)
        await declared_topology(self._settings)
        jobs_due = JobsDue(self._db, name="worker", metrics=self._metrics)
        self._notifications_db = await open_database(self._settings, "notifier")
        self._notifier = opened_notifier(
            self._settings, self._notifications_db, self._notifier_options, metrics=self._metrics, tracing=self._tracing
        )
        self._bindings = NotificationBindings(self._db, self._settings.rabbitmq_url.get_secret_value(), name="worker")
        self._tasks = [
            asyncio.create_task(self._changes.run(), name="group commit"),
            asyncio.create_task(self._jobs.run(), name="job consumer"),
            asyncio.create_task(jobs_due.run(), name="jobs due"),
            asyncio.create_task(self._notifications.run(), name="notifications"),
            asyncio.create_task(self._bindings.run(), name="notification bindings"),
            asyncio.create_task(self._notifier.run(), name="notifier"),
            asyncio.create_task(NotificationSweep(self._notifications_db, name="worker").run(), name="notification sweep"),
        ]

    async def start(self) -> None:
        """Open, and consume."""
        await self.open()
        await self._consume()
        self._tasks.append(asyncio.create_task(self._watch(), name="consumer watch"))
        self._tasks.append(asyncio.create_task(self._watch_backlog(), name="backlog watch"))

    async def failed(self) -> None:
        """Return only by raising: what ended a task that must go on for as long as the worker does."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise RuntimeError("a task of the worker ended by itself")

    async def stop(self) -> None:
        """Take no more, finish what is in flight within the grace period, and give back the rest and the jobs."""
        # First, or it would take jobs only to give them back.
        await self._jobs.stop()
        grace = self._settings.shutdown_grace_seconds if self._settings is not None else 0
        parts = [asyncio.create_task(part) for part in (self._consumption.leave(), self._slots.stop(), self._stop_notifier())]
        try:
            _, left = await asyncio.wait(parts, timeout=grace + _CANCELLED_WITHIN_SECONDS)
            if left:
                # What the broker's client cancelled is waited for by it, and waits for a rollback.
                self._terminate_databases()
            await asyncio.gather(*parts)
        finally:
            for part in parts:
                part.cancel()
            await self.close()

    async def close(self) -> None:
        """End what `open` began."""
        await self._slots.stop()
        for task in self._tasks:
            task.cancel()
        if self._tasks and self._db is not None:
            _, busy = await asyncio.wait(self._tasks, timeout=_CANCELLED_WITHIN_SECONDS)
            if busy or self._slots.busy:
                # A cancelled transaction waits for its rollback, and a database that hangs would keep it beyond every grace.
                self._terminate_databases()
        await self._slots.ended()
        for task, ended in zip(self._tasks, await asyncio.gather(*self._tasks, return_exceptions=True), strict=True):
            if isinstance(ended, Exception):
                _log.error("worker task failed", task=task.get_name(), exc_info=ended)
        await self._mappings.close()
        for db in (self._jobs_db, self._notifications_db, self._db):
            if db is not None:
                await db.close()

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        """How many changes came to each end since the start."""
        return {Outcome(outcome): int(times) for (outcome,), times in self._metrics.counted(CHANGES).items()}

    async def problems(self) -> dict[str, str]:
        """What keeps this worker from applying changes, by dependency; empty when nothing does."""
        found = {}
        if self._db is None:
            found["database"] = "not connected yet"
        elif not await self._db.answers():
            found["database"] = "away"
        elif not all(one.available for one in (self._changes, self._attempts, self._mappings, self._notifications)):
            found["database"] = "away; holding the messages in flight"
        if not await self._consumption.complete():
            found["broker"] = "not consuming"
        return found

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """For FastStream's own runner, which starts and stops the broker itself."""
        try:
            await self.open()
            yield
        finally:
            await self.close()

    async def _apply(self, changes: Sequence[Change]) -> list[Result]:
        if self._settings is None:
            raise RuntimeError("the worker was not opened")
        return await apply_changes(self._database(), changes, default_grace_days=self._settings.grace_days, metrics=self._metrics)

    def _terminate_databases(self) -> None:
        for db in (self._db, self._jobs_db, self._notifications_db):
            if db is not None:
                db.terminate()

    def _wake_notifier(self) -> None:
        if self._notifier is not None:
            self._notifier.wake()

    async def _stop_notifier(self) -> None:
        if self._notifier is not None:
            await self._notifier.stop()

    async def _enqueue(self, told: Sequence[Told]) -> int:
        if self._notifications_db is None:
            raise RuntimeError("the worker was not opened")
        return await enqueue_deliveries(self._notifications_db, told)

    async def _run_due(self) -> int:
        if self._settings is None:
            raise RuntimeError("the worker was not opened")
        return len(await run_due(self._settings, self._database()) or ())

    async def _find_mapping(self, connection_id: ConnectionId) -> WebhookMapping | None:
        return await find_webhook_mapping(self._database(), connection_id)

    def _database(self) -> Database:
        if self._db is None:
            raise RuntimeError("the worker was not opened")
        return self._db

    def _jobs_database(self) -> Database:
        if self._jobs_db is None:
            raise RuntimeError("the worker was not opened")
        return self._jobs_db

    async def _watch_backlog(self) -> None:
        if self._settings is None:
            raise RuntimeError("the worker was not opened")
        url = self._settings.rabbitmq_url.get_secret_value()
        await BacklogWatch(self._database(), url, _FAMILIES, self._metrics, name="worker").run()

    async def _consume(self) -> None:
        await self._consumption.begin(self._broker_place())

    async def _watch(self) -> None:
        await self._consumption.watch(self._broker_place(), self._declare_anew)

    async def _declare_anew(self) -> None:
        if self._settings is None:
            raise RuntimeError("the worker was not opened")
        await declared_topology(self._settings)
        if self._bindings is not None:
            self._bindings.bind_again()

    def _broker_place(self) -> str:
        if self._settings is None:
            raise RuntimeError("the worker was not opened")
        return without_password(self._settings.rabbitmq_url.get_secret_value())


def worker_metrics() -> Metrics:
    """What a worker counts by itself, where no process exposes it."""
    return Metrics((Stage.MESSAGES, Stage.APPLY, Stage.JOBS, Stage.NOTIFY))


def _job_options(settings: Settings | None) -> JobOptions:
    """A job that does not stop by itself is interrupted, and left to its lease, while the grace period lasts."""
    options = JobOptions()
    if settings is None:
        return options
    grace = timedelta(seconds=settings.shutdown_grace_seconds)
    return replace(
        options,
        stop_within=min(options.stop_within, grace / 2),
        end_within=min(options.end_within, grace / 4),
        look=min(options.look, max(grace / 10, timedelta(seconds=0.2))),
    )


def _say_closed(_: object, error: BaseException | None = None) -> None:
    if error is not None and not isinstance(error, asyncio.CancelledError):
        _log.warning("the broker's connection ended, what was in flight comes again", reason=type(error).__name__)


def _say_reconnected(_: object) -> None:
    _log.info("the broker's connection is back")
