"""The worker: FastStream's consumers over the apply path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import ChannelInvalidStateError
from faststream import FastStream
from faststream.exceptions import IncorrectState
from faststream.rabbit import Channel, RabbitBroker
from faststream.specification import AsyncAPI

from contracts.channels import MEMBER_CHANGES, WEBHOOKS
from service.actions.apply_changes import apply_changes
from service.actions.find_webhook import LastKnown, find_webhook_mapping
from service.actions.group_commit import GroupCommit
from service.actions.journal_attempts import AttemptJournal
from service.domain.change import Change
from service.domain.member import ConnectionId
from service.domain.outcome import Outcome, Result
from service.domain.webhooks.mapping import WebhookMapping
from service.entrypoints.consumers.failures import LoneHandling
from service.entrypoints.consumers.isolation import Isolation
from service.entrypoints.consumers.member_changes import member_changes_router
from service.entrypoints.consumers.webhooks import webhooks_router
from service.settings import Settings, SettingsError, load_settings, without_password
from service.store.database import Database
from service.wiring.resources import declared_topology, open_database
from service.wiring.waiting import until_there

__all__ = ["Worker", "worker_app"]

_PREFETCH: Final = 500
_QUEUES: Final = (MEMBER_CHANGES.main.name, WEBHOOKS.main.name)
_WATCH_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 10
_LOOK_SECONDS: Final = 2.0
_DOCUMENTED_URL: Final = "amqp://rabbitmq:5672/"

_log: Final = structlog.get_logger(__name__)


class Worker:
    """Consumers and what they need; started and stopped as one."""

    def __init__(self, settings: Settings | None) -> None:
        self._settings = settings
        self._db: Database | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._started = False
        self._changes = GroupCommit(self._apply, most=_PREFETCH)
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
        self._channel = Channel(prefetch_count=_PREFETCH)
        self.broker.include_router(member_changes_router(self.broker, self._changes, lone_handling, channel=self._channel))
        self.broker.include_router(
            webhooks_router(self.broker, self._changes, self._mappings.find, lone_handling, channel=self._channel)
        )

    async def open(self) -> None:
        """Everything but the consumers: the database, the topology, the group commit."""
        if self._settings is None:
            load_settings()  # raises what is wrong with the environment
            return
        self._db = await open_database(self._settings, "worker")
        await declared_topology(self._settings)
        self._tasks = [asyncio.create_task(self._changes.run(), name="group commit")]

    async def start(self) -> None:
        """Open, and consume."""
        await self.open()
        await self._consume()
        self._tasks.append(asyncio.create_task(self._watch(), name="consumer watch"))

    async def failed(self) -> None:
        """Return only by raising: what ended a task that must go on for as long as the worker does."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise RuntimeError("a task of the worker ended by itself")

    async def stop(self) -> None:
        """Take no more, finish what is in flight within the grace period, and give back the rest."""
        await self.broker.stop()
        await self.close()

    async def close(self) -> None:
        """End what `open` began."""
        for task in self._tasks:
            task.cancel()
        for task, ended in zip(self._tasks, await asyncio.gather(*self._tasks, return_exceptions=True), strict=True):
            if isinstance(ended, Exception):
                _log.error("worker task failed", task=task.get_name(), exc_info=ended)
        await self._mappings.close()
        if self._db is not None:
            await self._db.close()

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        """How many changes came to each end since the start."""
        return self._changes.outcomes

    async def problems(self) -> dict[str, str]:
        """What keeps this worker from applying changes, by dependency; empty when nothing does."""
        found = {}
        if self._db is None:
            found["database"] = "not connected yet"
        elif not await self._db.answers():
            found["database"] = "away"
        elif not (self._changes.available and self._attempts.available and self._mappings.available):
            found["database"] = "away; holding the messages in flight"
        if not await self._consuming():
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
        return await apply_changes(self._database(), changes, default_grace_days=self._settings.grace_days)

    async def _find_mapping(self, connection_id: ConnectionId) -> WebhookMapping | None:
        return await find_webhook_mapping(self._database(), connection_id)

    def _database(self) -> Database:
        if self._db is None:
            raise RuntimeError("the worker was not opened")
        return self._db

    async def _consume(self) -> None:
        # FastStream makes a second channel where two ask for one at once: until it has consumed nobody else may ask.
        self._started = False
        if self._settings is None:
            raise RuntimeError("the worker was not opened")
        where = without_password(self._settings.rabbitmq_url.get_secret_value())
        await until_there("the broker", where, self.broker.start)
        self._started = True
        _log.info("worker takes messages", queues=_QUEUES)

    async def _consuming(self) -> bool:
        """Whether the broker still has all our consumers: it drops one with its queue, and the connection looks well."""
        if not self._started:
            return False
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                if not await self.broker.ping(_LOOK_SECONDS):
                    return False
                channel = await self.broker.config.channel_manager.get_channel(self._channel)
                return len((await channel.get_underlay_channel()).consumers) == len(_QUEUES)
        except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, IncorrectState):
            return False

    async def _watch(self) -> None:
        """Consume anew where the broker dropped the consumer of a connection that lives; FastStream would never notice."""
        if self._settings is None:
            raise RuntimeError("the worker was not opened")
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if not await self.broker.ping(_LOOK_SECONDS) or await self._consuming():
                continue
            _log.warning("the broker dropped the consumer, declaring its queue anew", queues=_QUEUES)
            self._started = False
            await self.broker.stop()
            await declared_topology(self._settings)
            await self._consume()


def _say_closed(_: object, error: BaseException | None = None) -> None:
    if error is not None and not isinstance(error, asyncio.CancelledError):
        _log.warning("the broker's connection ended, what was in flight comes again", reason=type(error).__name__)


def _say_reconnected(_: object) -> None:
    _log.info("the broker's connection is back")


def worker_app() -> FastStream:
    """The worker as a FastStream application, for `faststream run --factory` and `faststream docs gen --factory`.

    Documentation needs no environment; a run without one raises SettingsError as it starts.
    """
    try:
        settings = load_settings()
    except SettingsError:
        settings = None
    worker = Worker(settings)
    return FastStream(
        worker.broker,
        lifespan=worker.lifespan,
        logger=None,
        specification=AsyncAPI(title="Rollcall worker", description="What the worker consumes.", version="1.0.0"),
    )
