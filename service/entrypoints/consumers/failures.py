"""What becomes of a message whose handler failed: a copy of it waits for its retry, or is parked with its reason.

handler returned             acked
Park                         parked at once: trying again cannot help
any other error              a copy waits in the retry queue, ten times, then parked
came back unanswered twice   handled alone, in its order; parked when that ended the process three times
came back 20 times           parked by the broker: nobody could even begin to handle it

A copy is confirmed before its original is acked. While the broker does not confirm, the message is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import blake2b
from time import perf_counter
from typing import Any, Final, Self

import structlog
from aio_pika import DeliveryMode, Message
from aio_pika.exceptions import AMQPError, PublishError
from faststream import BaseMiddleware, ContextRepo
from faststream.message import StreamMessage
from faststream.rabbit import RabbitBroker, RabbitMessage
from pamqp import encode

from contracts.channels import QueueFamily
from contracts.envelope import trace_context
from contracts.failures import REASON_HEADER, failed_attempts, headers_after_failure, headers_when_parked
from service.actions.journal_attempts import AttemptJournal
from service.domain.backoff import Backoff
from service.domain.errors import Park, RollcallError
from service.entrypoints.consumers.delivery import times_returned
from service.entrypoints.consumers.isolation import Isolation
from service.entrypoints.consumers.tracing import TracedHandling
from service.telemetry.handling import Handling, handle
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.traced import Traced
from service.telemetry.tracing import NO_TRACING, Tracing

__all__ = ["REASON_HEADER", "RETRIES", "LoneHandling", "ParkOrRetry"]

RETRIES: Final = 10
# From the second time on that a message came back unanswered it may be what ends the process.
_SUSPICIOUS_RETURNS: Final = 2
_LONE_ATTEMPTS: Final = 3
_PUBLISH_SECONDS: Final = 10.0
_WHILE_NOT_CONFIRMED: Final = Backoff(timedelta(seconds=0.25), timedelta(seconds=5))
# All headers travel in one frame, at most 128 KiB in size: a larger one would end the connection.
_MOST_HEADER_BYTES: Final = 100_000

_log: Final = structlog.get_logger(__name__)


class UncopyableError(RollcallError):
    """No copy of the message can be published: its headers leave no room for ours."""


@dataclass(frozen=True, slots=True)
class LoneHandling:
    """How a process handles messages that may end it; all its consumers share one, as any of them may be what ends it."""

    journal: AttemptJournal
    isolation: Isolation

    def of(self, message: RabbitMessage) -> AbstractAsyncContextManager[None]:
        """Together with others, or alone where it came back unanswered again."""
        return self.isolation.alone() if _suspicious(message) else self.isolation.together()


class ParkOrRetry(BaseMiddleware):
    """Around a consumer's handler; an error that leaves it makes FastStream reject, and the broker park, the message."""

    def __init__(
        self,
        msg: Any,
        /,
        *,
        context: ContextRepo,
        broker: RabbitBroker,
        family: QueueFamily,
        lone_handling: LoneHandling,
        metrics: Metrics,
        tracing: TracedHandling | None,
    ) -> None:
        super().__init__(msg, context=context)
        self._broker = broker
        self._family = family
        self._lone_handling = lone_handling
        self._metrics = metrics
        self._tracing = tracing

    @classmethod
    def of(
        cls,
        broker: RabbitBroker,
        family: QueueFamily,
        lone_handling: LoneHandling,
        metrics: Metrics = UNMEASURED,
        tracing: Tracing = NO_TRACING,
    ) -> partial[Self]:
        """The middleware for the consumer of one queue."""
        traced = TracedHandling(family, tracing) if tracing.on else None
        return partial(cls, broker=broker, family=family, lone_handling=lone_handling, metrics=metrics, tracing=traced)

    async def consume_scope(self, call_next: Callable[[StreamMessage[Any]], Awaitable[Any]], msg: StreamMessage[Any]) -> Any:
        """Call the handler and settle what it raises."""
        message: RabbitMessage = msg  # type: ignore[assignment]  # the only messages of a RabbitBroker
        raw = message.raw_message
        # For the log; what is handled here has a task of its own.
        traceparent, tracestate = trace_context(raw.headers)
        handle(Handling(raw.correlation_id, Traced(traceparent)))
        if self._tracing is not None:
            call_next = partial(self._tracing.handle, call_next, traceparent=traceparent, tracestate=tracestate)
        attempt = self._journalled if _suspicious(message) else _plain
        # Whoever is cancelled has lost its channel, and its message goes back to the queue.
        began, outcome = perf_counter(), "returned"
        try:
            async with self._lone_handling.of(message):
                try:
                    result = await attempt(call_next, message)
                except Park as error:
                    outcome = await self._park(message, str(error), str(error))
                except Exception as error:  # noqa: BLE001  # whatever it is, the message answers for it
                    # The text of an error without a rule here may quote a member's data.
                    reason = str(error) if isinstance(error, RollcallError) else type(error).__name__
                    outcome = await self._retry_or_park(message, reason)
                else:
                    outcome = "acked"
                    return result
        except Exception:
            outcome = "rejected"
            raise
        finally:
            self._metrics.message_settled(self._family.main.name, outcome, perf_counter() - began)
        return None

    async def _journalled(self, call_next: Callable[[StreamMessage[Any]], Awaitable[Any]], message: RabbitMessage) -> Any:
        """Handle what may end the process: written down before it begins, and no more once that did not help three times."""
        journal, digest = self._lone_handling.journal, self._digest(message)
        unfinished = await journal.begin(digest)
        # Also when this is cancelled: whoever still runs was not ended.
        try:
            if unfinished >= _LONE_ATTEMPTS:
                reason = f"ended the process each of the {unfinished} times it was handled alone"
                raise Park(reason)
            return await call_next(message)
        finally:
            await journal.end(digest)

    def _digest(self, message: RabbitMessage) -> bytes:
        """The same at each delivery of a message, and not readable."""
        raw = message.raw_message
        digest = blake2b(f"{self._family.main.name}\0{raw.message_id or ''}\0".encode(), digest_size=16)
        digest.update(raw.body)
        return digest.digest()

    async def _retry_or_park(self, message: RabbitMessage, error: str) -> str:
        raw = message.raw_message
        failures = failed_attempts(raw.headers)
        if failures >= RETRIES:
            return await self._park(message, f"failed {failures + 1} times, last: {error}", error)
        await self._publish_copy(message, self._family.retry.name, headers_after_failure(raw.headers, error, datetime.now(UTC)))
        _log.warning("message failed, waits for its retry", message_id=raw.message_id, reason=error, retries=failures)
        return "retried"

    async def _park(self, message: RabbitMessage, reason: str, error: str) -> str:
        now, queue = datetime.now(UTC), self._family.main.name
        headers = headers_after_failure(message.raw_message.headers, error, now)
        await self._publish_copy(message, self._family.parked.name, headers_when_parked(headers, reason, queue, now))
        _log.warning("message parked", queue=queue, message_id=message.raw_message.message_id, reason=reason)
        return "parked"

    async def _publish_copy(self, message: RabbitMessage, queue: str, headers: dict[str, Any]) -> None:
        """Publish and wait for the confirm, however long it takes; raises PublishError where there is no such queue."""
        raw = message.raw_message
        if len(encode.field_table(headers)) > _MOST_HEADER_BYTES:
            _log.error("message cannot be copied, the broker parks it", message_id=raw.message_id)
            raise UncopyableError("its headers leave no room for ours")
        copy = Message(
            raw.body,
            headers=headers,
            content_type=raw.content_type,
            content_encoding=raw.content_encoding,
            delivery_mode=DeliveryMode.PERSISTENT,
            correlation_id=raw.correlation_id,
            message_id=raw.message_id,
            timestamp=raw.timestamp,
            type=raw.type,
        )
        failures = 0
        while True:
            try:
                await self._broker.publish(copy, queue, mandatory=True, timeout=_PUBLISH_SECONDS)
            except PublishError:
                raise
            except (AMQPError, OSError, TimeoutError) as error:
                # Ends with the channel that the message came on: it is cancelled, and the message is delivered again.
                _log.warning("broker does not confirm, holding a failed message", queue=queue, reason=type(error).__name__)
                failures += 1
                await asyncio.sleep(_WHILE_NOT_CONFIRMED.after(failures).total_seconds())
            else:
                return


async def _plain(call_next: Callable[[StreamMessage[Any]], Awaitable[Any]], message: RabbitMessage) -> Any:
    return await call_next(message)


def _suspicious(message: RabbitMessage) -> bool:
    return times_returned(message) >= _SUSPICIOUS_RETURNS
