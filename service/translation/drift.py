"""What is told of drift: the one message of a promotion, ready to be stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from contracts.channels import DRIFT_PROMOTED, drift_promoted_routing_key
from contracts.drift_promoted import DriftPromotedV1
from contracts.envelope import Envelope
from service.domain.drift import DriftTally, ReconciliationMode
from service.store.outbox import OutboxRow

__all__ = ["Promotion", "to_drift_promoted"]

_SOURCE: Final = "rollcall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """The run that made a streak of breaches long enough to be told of."""

    run_id: UUID
    read_model: str
    mode: ReconciliationMode
    tally: DriftTally
    streak: int
    at: datetime
    correlation_id: str
    traceparent: str | None


def to_drift_promoted(promotion: Promotion) -> OutboxRow:
    """The DRIFT_PROMOTED of a run, ready to be sent."""
    tally = promotion.tally
    body = DriftPromotedV1(
        read_model=promotion.read_model,
        run_id=promotion.run_id,
        mode=promotion.mode.value,
        compared=tally.compared,
        out_of_sync=tally.out_of_sync,
        errors=tally.errors,
        drift_rate=tally.rate or 0.0,
        streak=promotion.streak,
        occurred_at=promotion.at,
    )
    envelope = Envelope(
        id=str(promotion.run_id),
        source=_SOURCE,
        type=DRIFT_PROMOTED.message_type,
        time=promotion.at,
        subject=promotion.read_model,
        traceparent=promotion.traceparent,
        correlation_id=promotion.correlation_id,
    )
    return OutboxRow(
        order_key=promotion.run_id,
        exchange=DRIFT_PROMOTED.exchange.name,
        routing_key=drift_promoted_routing_key(),
        type=envelope.type,
        message_id=envelope.id,
        correlation_id=promotion.correlation_id,
        headers=envelope.to_headers(),
        body=body.to_json().decode(),
        occurred_at=promotion.at,
    )
