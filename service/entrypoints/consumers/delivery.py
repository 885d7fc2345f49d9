"""One delivered message: its body by its contract, its envelope, and its place in the channel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

from faststream.rabbit import RabbitMessage
from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema

from contracts.channels import Channel
from contracts.envelope import Envelope, EnvelopeError
from contracts.errors import describe
from contracts.wire import WireModel
from service.domain.errors import Park

__all__ = ["Delivery", "decoder", "times_returned"]

M = TypeVar("M", bound=WireModel)


@dataclass(frozen=True, slots=True)
class Delivery(Generic[M]):
    """What a door is called with; the generated documentation shows it as its body."""

    body: M
    envelope: Envelope
    # Grows with each delivery of a channel: the order of arrival.
    tag: int
    # How often it was delivered before without an answer.
    returned: int

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of the body."""
        return handler(get_args(source)[0])


def decoder(channel: Channel, model: type[M]) -> Callable[[RabbitMessage], Awaitable[Delivery[M]]]:
    """How to read the messages of a channel; what does not fit its contract raises Park, with a text free of values."""

    async def decode(message: RabbitMessage) -> Delivery[M]:
        raw = message.raw_message
        try:
            envelope = Envelope.parse(raw.headers, raw, channel.message_type)
            body = model.from_json(message.body)
        except EnvelopeError as error:
            raise Park(str(error)) from None
        except ValidationError as error:
            # pydantic's own text quotes the input.
            raise Park(describe(error)) from None
        return Delivery(body, envelope, raw.delivery_tag or 0, times_returned(message))

    return decode


def times_returned(message: RabbitMessage) -> int:
    """How often a quorum queue took the message back from a consumer that never answered."""
    count = message.raw_message.headers.get("x-delivery-count", 0)
    return count if isinstance(count, int) else 0
