"""A message that waits in the outbox, as the relay sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["ClaimedMessage"]


@dataclass(slots=True)
class ClaimedMessage:
    """The lowest row of its key, a whole message: `headers` are all the AMQP headers, `body` is JSON text."""

    id: int
    order_key: UUID
    attempts: int
    exchange: str
    routing_key: str
    type: str
    message_id: str
    correlation_id: str
    headers: Mapping[str, Any]
    body: str
    occurred_at: datetime
