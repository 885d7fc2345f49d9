"""A message that is sent, as a span tells of it."""

from __future__ import annotations

from typing import Protocol

from service.telemetry import names
from service.telemetry.traced import Attributes

__all__ = ["Sent", "send_attributes"]


class Sent(Protocol):
    """What a span says of a message; never its body, and of its headers none."""

    @property
    def exchange(self) -> str:
        """Where it is published."""

    @property
    def routing_key(self) -> str:
        """By what it is routed."""

    @property
    def message_id(self) -> str:
        """Its identity."""

    @property
    def correlation_id(self) -> str:
        """The run or request that it belongs to."""

    @property
    def body(self) -> str:
        """JSON text, of which the size is told."""


def send_attributes(message: Sent) -> Attributes:
    """By the conventions for RabbitMQ."""
    return {
        names.MESSAGING_SYSTEM: names.RABBITMQ,
        names.MESSAGING_OPERATION_NAME: names.SEND,
        names.MESSAGING_OPERATION_TYPE: names.SEND,
        names.MESSAGING_DESTINATION_NAME: f"{message.exchange}:{message.routing_key}",
        names.MESSAGING_ROUTING_KEY: message.routing_key,
        names.MESSAGING_MESSAGE_ID: message.message_id,
        names.MESSAGING_CONVERSATION_ID: message.correlation_id,
        names.MESSAGING_BODY_SIZE: len(message.body.encode()),
    }
