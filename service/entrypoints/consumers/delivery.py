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
from contracts.wire import WireModel
from service.domain.errors import Park

__all__ = ["Delivery", "DocumentedAs", "decoder", "times_returned"]

M = TypeVar("M", bound=WireModel)


@dataclass(frozen=True, slots=True)
class Delivery(Generic[M]):
    """What a door is called with."""

    body: M
    envelope: Envelope
    # Grows with each delivery of a channel: the order of arrival.
    tag: int


@dataclass(frozen=True, slots=True)
class DocumentedAs:
    """What the generated documentation shows of a door's parameter: the body, in place of this room's own wrapping."""

    body: type[WireModel]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """An instance, with the body's JSON Schema in place: FastStream recurses without end on a mere reference."""

        def document(_: CoreSchema, json_schema: GetJsonSchemaHandler) -> JsonSchemaValue:
            return dict(json_schema.resolve_ref_schema(json_schema(self.body.__pydantic_core_schema__)))

        return core_schema.is_instance_schema(Delivery, metadata={"pydantic_js_functions": [document]})


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
        return Delivery(body, envelope, raw.delivery_tag or 0)

    return decode


def times_returned(message: RabbitMessage) -> int:
    """How often a quorum queue took the message back from a consumer that never answered."""
    count = message.raw_message.headers.get("x-delivery-count", 0)
    return count if isinstance(count, int) else 0
