"""The worker: FastStream's consumers over the apply path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog
from aio_pika.exceptions import AMQPError
from faststream import FastStream
from faststream.exceptions import IncorrectState
from faststream.rabbit import Channel, RabbitBroker
from faststream.specification import AsyncAPI

from contracts.channels import MEMBER_CHANGES
from service.actions.apply_changes import apply_changes
from service.actions.group_commit import GroupCommit
from service.domain.change import Change
from service.domain.outcome import Outcome, Result
from service.entrypoints.consumers.member_changes import member_changes_router
from service.settings import Settings, SettingsError, load_settings, without_password
from service.store.database import Database
from service.wiring.resources import declared_topology, open_database
from service.wiring.waiting import until_there

__all__ = ["Worker", "worker_app"]

_PREFETCH: Final = 500
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
        self.broker = RabbitBroker(
            settings.rabbitmq_url.get_secret_value() if settings else _DOCUMENTED_URL,
            timeout=_CONNECT_SECONDS,
            fail_fast=True,
            reconnect_interval=1.0,
            graceful_timeout=settings.shutdown_grace_seconds if settings else None,
            # What is published here is what is parked: confirmed, and unroutable is a failure.
            default_channel=Channel(on_return_raises=True),
            # Its own log would show the text of errors, which may quote a member's data; ours says what happened to each.
            logger=None,
            # The decoders check every message against its contract; FastStream must not try again.
            apply_types=False,
        )
        # A channel of its own: what closes the publishing one must not cancel the handlers in flight.
        self._channel = Channel(prefetch_count=_PREFETCH)
        self.broker.include_router(member_changes_router(self.broker, self._changes, channel=self._channel))

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

    async def stop(self) -> None:
        """Take no more, finish what is in flight within the grace period, and give back the rest."""
        await self.broker.stop()
        await self.close()

    async def close(self) -> None:
        """End what `open` began."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
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
        elif not self._changes.available:
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
        if self._db is None or self._settings is None:
            raise RuntimeError("the worker was not opened")
        return await apply_changes(self._db, changes, default_grace_days=self._settings.grace_days)

    async def _consume(self) -> None:
        # FastStream makes a second channel where two ask for one at once: until it has consumed nobody else may ask.
        self._started = False
        if self._settings is None:
            raise RuntimeError("the worker was not opened")
        where = without_password(self._settings.rabbitmq_url.get_secret_value())
        await until_there("the broker", where, self.broker.start)
        self._started = True
        _log.info("worker takes messages", queue=MEMBER_CHANGES.main.name)

    async def _consuming(self) -> bool:
        """Whether the broker still has our consumer: it drops one with its queue, and the connection looks well all the same."""
        if not self._started:
            return False
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                if not await self.broker.ping(_LOOK_SECONDS):
                    return False
                channel = await self.broker.config.channel_manager.get_channel(self._channel)
                return bool((await channel.get_underlay_channel()).consumers)
        except (AMQPError, OSError, TimeoutError, IncorrectState):
            return False

    async def _watch(self) -> None:
        """Consume anew where the broker dropped the consumer of a connection that lives; FastStream would never notice."""
        if self._settings is None:
            raise RuntimeError("the worker was not opened")
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if not await self.broker.ping(_LOOK_SECONDS) or await self._consuming():
                continue
            _log.warning("the broker dropped the consumer, declaring its queue anew", queue=MEMBER_CHANGES.main.name)
            self._started = False
            await self.broker.stop()
            await declared_topology(self._settings)
            await self._consume()


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
