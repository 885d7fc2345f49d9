"""A message's handling as a span, below the one that sent it; inside of what settles errors, so that it sees the real exception.

No middleware of its own: FastStream makes, enters and leaves each anew for every message, which costs more than the span's whole
beginning does where nothing is recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from faststream.rabbit import RabbitMessage

from contracts.channels import QueueFamily
from contracts.failures import failed_attempts
from service.domain.errors import RollcallError
from service.entrypoints.consumers.delivery import times_returned
from service.telemetry import names
from service.telemetry.handling import Handling, handle
from service.telemetry.traced import Attributes
from service.telemetry.tracing import SpanKind, Tracing

__all__ = ["TracedHandling"]


class TracedHandling:
    """Begins a CONSUMER span for each message of a queue that is recorded, and hands the trace on where it is not."""

    def __init__(self, family: QueueFamily, tracing: Tracing) -> None:
        self._queue = family.main.name
        self._name = names.process_span(self._queue)
        self._tracing = tracing

    async def handle(
        self,
        call_next: Callable[[RabbitMessage], Awaitable[Any]],
        message: RabbitMessage,
        *,
        traceparent: str | None,
        tracestate: str | None,
    ) -> Any:
        """Call the handler; what it raises goes on, and its kind into the span."""
        traced = self._tracing.start(self._name, SpanKind.CONSUMER, traceparent, tracestate=tracestate)
        # Not taken back: what is logged of a failure further out belongs to it too.
        handle(Handling(message.raw_message.correlation_id, traced))
        if traced.span is None:
            return await call_next(message)
        traced.note(self._attributes(message))
        try:
            result = await call_next(message)
        except BaseException as error:
            # The text of an error without a rule here may quote a member's data.
            traced.end(type(error).__name__, str(error) if isinstance(error, RollcallError) else None)
            raise
        traced.end()
        return result

    def _attributes(self, message: RabbitMessage) -> Attributes:
        raw = message.raw_message
        attempts = {names.RETURNS: times_returned(message), names.FAILED_ATTEMPTS: failed_attempts(raw.headers)}
        ids = {names.MESSAGING_MESSAGE_ID: raw.message_id, names.MESSAGING_CONVERSATION_ID: raw.correlation_id}
        places = dict.fromkeys(place for place in (raw.exchange, raw.routing_key, self._queue) if place)
        return {
            names.MESSAGING_SYSTEM: names.RABBITMQ,
            names.MESSAGING_OPERATION_NAME: names.PROCESS,
            names.MESSAGING_OPERATION_TYPE: names.PROCESS,
            names.MESSAGING_DESTINATION_NAME: ":".join(places),
            names.MESSAGING_ROUTING_KEY: raw.routing_key or "",
            names.MESSAGING_DELIVERY_TAG: raw.delivery_tag or 0,
            **{name: text for name, text in ids.items() if text},
            # Each attribute costs its encoding; what most messages have none of is told where there is some.
            **{name: count for name, count in attempts.items() if count},
        }
