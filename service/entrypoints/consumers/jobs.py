"""JOB_REQUESTED: a job is queued. Its message is acknowledged once the job is claimed, not when it ends.

While all slots are taken nothing is consumed: a message that waited here for one would keep a free worker from it, and RabbitMQ
closes a channel that holds a message for half an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Final

import structlog
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import ChannelInvalidStateError
from faststream import BaseMiddleware, ContextRepo
from faststream.exceptions import IncorrectState
from faststream.message import StreamMessage
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage, RabbitQueue, RabbitRouter

from contracts.channels import JOB_REQUESTED, JOBS
from contracts.job_requested import JobRequestedV1
from service.domain.backoff import Backoff
from service.domain.errors import Retry
from service.domain.jobs import JobId
from service.entrypoints.consumers.delivery import Delivery, DocumentedAs, decoder
from service.entrypoints.consumers.failures import LoneHandling, ParkOrRetry
from service.entrypoints.consumers.job_slots import JobSlots
from service.telemetry import names
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.tracing import NO_TRACING, Tracing

__all__ = ["JobConsumer"]

_BROKER_ERRORS: Final = (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, IncorrectState)
_CANCEL_SECONDS: Final = 10.0
_IN_HAND_SECONDS: Final = 0.2
# A consumer that the library brought back with its connection may meet full slots.
_HELD_AT_MOST_SECONDS: Final = 20.0
_AGAIN: Final = Backoff(timedelta(seconds=0.2), timedelta(seconds=5))

_log: Final = structlog.get_logger(__name__)


class NoSlot(Retry):
    """All slots of this worker stay taken; another worker may have one."""


class JobConsumer:
    """The consumer of jobs, which pauses while there is no slot; `channel` has a prefetch of one."""

    def __init__(
        self,
        broker: RabbitBroker,
        slots: JobSlots,
        lone_handling: LoneHandling,
        *,
        channel: Channel,
        tracing: Tracing = NO_TRACING,
        metrics: Metrics = UNMEASURED,
    ) -> None:
        self._slots = slots
        self._paused = asyncio.Event()
        # Whoever starts or stops the broker's consumers holds it: two that do so at once would leave two consumers behind.
        self.lock = asyncio.Lock()
        self.router = RabbitRouter(
            middlewares=[
                ParkOrRetry.of(broker, JOBS, lone_handling, metrics, tracing),
                partial(_OnlyWithSlot, consumer=self),
            ]
        )
        self._subscriber = self.router.subscriber(
            RabbitQueue(JOBS.main.name, declare=False, durable=True),
            channel=channel,
            decoder=decoder(JOB_REQUESTED, JobRequestedV1, kind_of=lambda body: body.kind),
            title=JOB_REQUESTED.message_type,
            description=JOB_REQUESTED.summary,
        )
        self._subscriber(self.on_job_requested)

    async def on_job_requested(self, delivery: Annotated[Delivery[JobRequestedV1], DocumentedAs(JobRequestedV1)]) -> None:
        """Claim the job and let it run; one that is another's or has ended is ignored."""
        delivery.traced.note({names.JOB_ID: str(delivery.body.job_id), names.JOB_KIND: delivery.body.kind})
        begun = await self._slots.begin(JobId(delivery.body.job_id), delivery.body.kind, delivery.traced)
        delivery.traced.note({names.OUTCOME: names.BEGUN if begun else names.IGNORED})

    @property
    def paused(self) -> bool:
        """Whether it takes nothing because all slots are taken."""
        return self._paused.is_set()

    def begun(self) -> None:
        """The broker's consumers were started anew, this one among them."""
        self._paused.clear()

    async def run(self) -> None:
        """Take messages again each time a slot is free after a pause; until cancelled."""
        while True:
            await self._paused.wait()
            await self._slots.freed()
            async with self.lock:
                if self.paused:
                    await self._resume()

    async def stop(self) -> None:
        """Take no more; what is in hand is waited for by whoever stops all consumers."""
        async with self.lock:
            try:
                # From its first step on it takes nothing. Then it would wait for what is in hand, which may wait for the database,
                # and the grace period would be over before the others begin to stop.
                await asyncio.wait_for(self._subscriber.stop(), _IN_HAND_SECONDS)
            except TimeoutError:
                return
            except _BROKER_ERRORS as error:
                # It takes nothing any more either way; the broker is left by whoever stops all consumers.
                _log.warning("the broker is away while jobs stop", reason=type(error).__name__)

    async def _resume(self) -> None:
        failures = 0
        while True:
            try:
                await self._subscriber.stop()
                await self._subscriber.start()
            except _BROKER_ERRORS as error:
                failures += 1
                if failures == 1:
                    _log.warning("jobs are not taken yet", reason=type(error).__name__)
                await asyncio.sleep(_AGAIN.after(failures).total_seconds())
            else:
                self._paused.clear()
                return

    async def with_slot(self, call_next: Callable[[StreamMessage[Any]], Awaitable[Any]], message: RabbitMessage) -> Any:
        """Handle a message when there is a slot, and take no other once there is none; raises NoSlot."""
        try:
            async with asyncio.timeout(_HELD_AT_MOST_SECONDS):
                await self._slots.freed()
        except TimeoutError:
            raise NoSlot("all slots of the worker are taken") from None
        try:
            return await call_next(message)
        finally:
            if self._slots.full:
                await self._pause(message)

    async def _pause(self, message: RabbitMessage) -> None:
        """Before this message is acknowledged: with a prefetch of one no other can have come by then."""
        raw = message.raw_message
        try:
            await raw.channel.basic_cancel(raw.consumer_tag or "", timeout=_CANCEL_SECONDS)
        except _BROKER_ERRORS as error:
            # The channel is gone, and its consumer comes back with it.
            _log.warning("the broker does not pause the jobs", reason=type(error).__name__)
        else:
            self._paused.set()


class _OnlyWithSlot(BaseMiddleware):
    def __init__(self, msg: Any, /, *, context: ContextRepo, consumer: JobConsumer) -> None:
        super().__init__(msg, context=context)
        self._consumer = consumer

    async def consume_scope(self, call_next: Callable[[StreamMessage[Any]], Awaitable[Any]], msg: StreamMessage[Any]) -> Any:
        message: RabbitMessage = msg  # type: ignore[assignment]  # the only messages of a RabbitBroker
        return await self._consumer.with_slot(call_next, message)
