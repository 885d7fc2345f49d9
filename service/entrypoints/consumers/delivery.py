"""One delivered message: its body by its contract, its envelope, and its place in the channel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from faststream.rabbit import RabbitMessage
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from contracts.channels import Channel
from contracts.envelope import Envelope, EnvelopeError
from contracts.errors import describe
from contracts.failures import REPLAYED_HEADER
from contracts.wire import WireModel
from service.domain.errors import Park
from service.telemetry.handling import handling
from service.telemetry.traced import Traced

__all__ = ["Delivery", "DocumentedAs", "decoder", "times_returned"]

M = TypeVar("M", bound=WireModel)


@dataclass(frozen=True, slots=True)
class Delivery(Generic[M]):
    """What a door is called with."""

    body: M
    envelope: Envelope
    # Grows with each delivery of a channel: the order of arrival.
    tag: int
    traced: Traced
    # An event that somebody sends again, who knows that it is not new.
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class DocumentedAs:
    """What the generated documentation shows of a door's parameter: the body, in place of this room's own wrapping."""

    body: type[WireModel]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """An instance, with the body's JSON Schema in place: FastStream recurses without end on a mere reference."""

        def document(_: CoreSchema, json_schema: GetJsonSchemaHandler) -> JsonSchemaValue:
            return dict(json_schema.resolve_ref_schema(json_schema(self.body.__pydantic_core_schema__)))

        return core_schema.is_instance_schema(Delivery, metadata={"pydantic_js_functions": [document]})


def decoder(
    channel: Channel, model: type[M], kind_of: Callable[[M], str] | None = None
) -> Callable[[RabbitMessage], Awaitable[Delivery[M]]]:
    """How to read the messages of a channel; what does not fit its contract raises Park, with a text free of values.

    `kind_of` is given where the type of a message is that of its body's kind.
    """

    async def decode(message: RabbitMessage) -> Delivery[M]:
        raw, traced = message.raw_message, handling().traced
        try:
            if kind_of is None:
                envelope = Envelope.parse(raw.headers, raw, channel.message_type, handled_at=traced.traceparent)
                body = model.from_json(message.body)
            else:
                body = model.from_json(message.body)
                envelope = Envelope.parse(raw.headers, raw, channel.type_of(kind_of(body)), handled_at=traced.traceparent)
        except EnvelopeError as error:
            raise Park(str(error)) from None
        except ValidationError as error:
            # pydantic's own text quotes the input.
            raise Park(describe(error)) from None
        return Delivery(body, envelope, raw.delivery_tag or 0, traced, raw.headers.get(REPLAYED_HEADER) == "true")

    return decode


def times_returned(message: RabbitMessage) -> int:
    """How often a quorum queue took the message back from a consumer that never answered."""
    count = message.raw_message.headers.get("x-delivery-count", 0)
    return count if isinstance(count, int) else 0
