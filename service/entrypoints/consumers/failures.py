"""What becomes of a message whose handler failed: parked with its reason, or rejected into its retry queue.

handler returned             acked
Park                         parked at once: trying again cannot help
any other error              rejected; the retry queue hands it back after its delay, ten times, then parked
gave out the delivery limit  parked unread: it ended the process that often
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Self

import structlog
from aio_pika import DeliveryMode, Message
from aio_pika.abc import HeadersType
from faststream import BaseMiddleware, ContextRepo
from faststream.message import StreamMessage
from faststream.rabbit import RabbitBroker, RabbitMessage

from contracts.channels import QueueFamily
from service.domain.errors import Park, RollcallError

__all__ = ["REASON_HEADER", "ParkOrRetry"]

REASON_HEADER: Final = "x-rollcall-reason"
_QUEUE_HEADER: Final = "x-rollcall-queue"
_PARKED_AT_HEADER: Final = "x-rollcall-parked-at"
_RETRIES: Final = 10
_PUBLISH_SECONDS: Final = 10.0

_log: Final = structlog.get_logger(__name__)


class ParkOrRetry(BaseMiddleware):
    """The innermost middleware of a consumer; an error that leaves it makes FastStream reject the message into its retry queue."""

    def __init__(self, msg: Any, /, *, context: ContextRepo, broker: RabbitBroker, family: QueueFamily) -> None:
        super().__init__(msg, context=context)
        self._broker = broker
        self._family = family

    @classmethod
    def of(cls, broker: RabbitBroker, family: QueueFamily) -> partial[Self]:
        """The middleware for the consumer of one queue."""
        return partial(cls, broker=broker, family=family)

    async def consume_scope(self, call_next: Callable[[StreamMessage[Any]], Awaitable[Any]], msg: StreamMessage[Any]) -> Any:
        """Call the handler and settle what it raises."""
        message: RabbitMessage = msg  # type: ignore[assignment]  # the only messages of a RabbitBroker
        if _hit_the_delivery_limit(message):
            await self._park(message, "delivered again and again without an answer: it may end the process that handles it")
            return None
        try:
            return await call_next(msg)
        except Park as error:
            await self._park(message, str(error))
        except Exception as error:
            retries = _retries(message)
            # The text of an error without a rule here may quote a member's data.
            reason = str(error) if isinstance(error, RollcallError) else type(error).__name__
            if retries < _RETRIES:
                _log.warning("message failed, waits for its retry", message_id=message.message_id, reason=reason, retries=retries)
                raise
            await self._park(message, f"failed {retries + 1} times, last: {reason}")
        return None

    async def _park(self, message: RabbitMessage, reason: str) -> None:
        """Publish to the parked queue and wait for the confirm: only then may the message be acked."""
        raw = message.raw_message
        headers: HeadersType = {
            **raw.headers,
            REASON_HEADER: reason,
            _QUEUE_HEADER: self._family.main.name,
            _PARKED_AT_HEADER: datetime.now(UTC).isoformat(),
        }
        await self._broker.publish(
            Message(
                raw.body,
                headers=headers,
                content_type=raw.content_type,
                content_encoding=raw.content_encoding,
                delivery_mode=DeliveryMode.PERSISTENT,
                correlation_id=raw.correlation_id,
                message_id=raw.message_id,
                timestamp=raw.timestamp,
                type=raw.type,
            ),
            self._family.parked.name,
            mandatory=True,
            timeout=_PUBLISH_SECONDS,
        )
        _log.warning("message parked", queue=self._family.main.name, message_id=raw.message_id, reason=reason)


def _deaths(message: RabbitMessage) -> Iterator[Mapping[str, Any]]:
    deaths = message.raw_message.headers.get("x-death")
    if isinstance(deaths, list):
        yield from (death for death in deaths if isinstance(death, Mapping))


def _retries(message: RabbitMessage) -> int:
    """How often the message was rejected before."""
    counts = (death.get("count") for death in _deaths(message) if death.get("reason") == "rejected")
    return max((count for count in counts if isinstance(count, int)), default=0)


def _hit_the_delivery_limit(message: RabbitMessage) -> bool:
    return any(death.get("reason") == "delivery_limit" for death in _deaths(message))
