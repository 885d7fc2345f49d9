"""The consumers of FastStream's broker: begun, watched, begun anew where the broker dropped them, and left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import ChannelInvalidStateError
from faststream.exceptions import IncorrectState
from faststream.rabbit import Channel, RabbitBroker

from service.clients.amqp_connection import says_closed
from service.entrypoints.consumers.jobs import JobConsumer
from service.wiring.waiting import until_there

__all__ = ["Consumption"]

_WATCH_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 2.0
# Of a stop: each ends what the one before it had left when the broker went away.
_LEAVE_ATTEMPTS: Final = 3

_log: Final = structlog.get_logger(__name__)


class Consumption:
    """What the broker must hold of ours while the worker runs; its connection may look well although it does not."""

    def __init__(
        self,
        broker: RabbitBroker,
        consumers: Mapping[Channel, int],
        jobs: JobConsumer,
        jobs_channel: Channel,
        *,
        queues: Sequence[str],
    ) -> None:
        """`consumers`: how many each channel has, but for the jobs', which come and go."""
        self._broker = broker
        self._consumers = consumers
        self._jobs = jobs
        self._jobs_channel = jobs_channel
        self._queues = queues
        self._begun = False

    async def begin(self, where: str) -> None:
        """Consume, as soon as the broker is there; `where` names it in the log."""
        # FastStream makes a second channel where two ask for one at once: until it has consumed nobody else may ask.
        self._begun = False
        async with self._jobs.lock:
            await until_there("the broker", where, self._start)
            self._jobs.begun()
        self._begun = True
        _log.info("worker takes messages", queues=self._queues)

    async def leave(self) -> None:
        """Stop consuming, whatever becomes of the broker meanwhile: FastStream leaves off where a consumer cannot say so."""
        for attempts_left in reversed(range(_LEAVE_ATTEMPTS)):
            try:
                await self._broker.stop()
            except (ExceptionGroup, AMQPError, RuntimeError, OSError) as error:
                if not _says_that_the_broker_is_away(error) or not attempts_left:
                    raise
            else:
                return

    async def complete(self) -> bool:
        """Whether the broker still has all our consumers: it drops one with its queue, and the connection looks well."""
        if not self._begun:
            return False
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                if not await self._broker.ping(_LOOK_SECONDS):
                    return False
                for channel, consumers in self._consumers.items():
                    if await self._count(channel) != consumers:
                        return False
                return self._jobs.paused or await self._count(self._jobs_channel) == 1
        except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, IncorrectState):
            return False

    async def watch(self, where: str, declare: Callable[[], Awaitable[None]]) -> None:
        """Consume anew where the broker dropped a consumer of a connection that lives, which FastStream would never notice.

        `declare` brings back what the consumers need, first of all their queues. Until cancelled.
        """
        missing = False
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            was_missing, missing = missing, await self._broker.ping(_LOOK_SECONDS) and not await self.complete()
            # A connection that has just come back is taking up its consumers by itself: it has lost them when it still lacks them.
            if not (was_missing and missing):
                continue
            _log.warning("the broker dropped the consumer, declaring its queue anew", queues=self._queues)
            self._begun = missing = False
            async with self._jobs.lock:
                await self.leave()
            await declare()
            await self.begin(where)

    async def _start(self) -> None:
        try:
            await self._broker.start()
        except BaseException:
            # Half of it may be there, and come back with the connection beside what the next attempt makes.
            await self.leave()
            raise

    async def _count(self, channel: Channel) -> int:
        robust = await self._broker.config.channel_manager.get_channel(channel)
        return len((await robust.get_underlay_channel()).consumers)


def _says_that_the_broker_is_away(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):
        return all(_says_that_the_broker_is_away(one) for one in error.exceptions)
    return isinstance(error, AMQPError | OSError) or says_closed(error)
