"""What subscribers are told: events as they come from the queue or the audit, and as they go out over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.membership_updated import MembershipUpdatedV1
from service.domain.member import CompanyId, MemberId
from service.domain.notifications.subscriber import Told

if TYPE_CHECKING:
    from contracts.envelope import Envelope
    from service.store.member_events import PastEvent

__all__ = ["to_heard", "to_told"]


def to_heard(message: MembershipUpdatedV1, envelope: Envelope, *, replayed: bool) -> Told:
    """What a MEMBERSHIP_UPDATED of the queue tells."""
    return Told(
        member_id=MemberId(message.member_id),
        version=message.version,
        company_id=CompanyId(message.company_id),
        occurred_at=message.occurred_at,
        reason_code=message.reason_code,
        new_state=message.new_state,
        changed_fields=message.changed_fields,
        correlation_id=envelope.correlation_id or envelope.id,
        traceparent=envelope.traceparent,
        replayed=replayed,
    )


def to_told(past: PastEvent) -> Told:
    """What the event of a past version told."""
    return Told(
        member_id=past.member_id,
        version=past.version,
        company_id=past.company_id,
        occurred_at=past.occurred_at,
        reason_code=past.reason_code,
        new_state=past.new_state,
        changed_fields=tuple(past.changed_fields),
        correlation_id=past.correlation_id,
        traceparent=past.traceparent,
    )
