"""What subscribers are told: events as they come from the queue or the audit, and as they go out over HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from contracts.envelope import Envelope
from contracts.subscriber_test import SUBSCRIBER_TEST, SubscriberTestV1
from service.domain.member import CompanyId, MemberId
from service.domain.notifications.subscriber import SubscriberId, Told
from service.translation.messages import to_event_envelope, to_past_message

if TYPE_CHECKING:
    from contracts.membership_updated import MembershipUpdatedV1
    from service.store.member_events import PastEvent

__all__ = ["Notification", "to_heard", "to_notification", "to_test_notification", "to_told"]


@dataclass(frozen=True, slots=True)
class Notification:
    """A CloudEvent as it goes out: the same id and body however often it is sent, and to whomever."""

    id: str
    body: bytes = field(repr=False)


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


def to_notification(past: PastEvent) -> Notification:
    """The event of a past version as it was said, for a subscriber."""
    message = to_past_message(past)
    envelope = to_event_envelope(message, past.correlation_id, past.traceparent)
    return Notification(envelope.id, envelope.to_structured(message.to_json()))


def to_test_notification(test_id: UUID, subscriber_id: SubscriberId, company_id: CompanyId, requested_at: datetime) -> Notification:
    """Something about nobody, so that a subscriber can show that it understands what is sent."""
    message = SubscriberTestV1(subscriber_id=subscriber_id, company_id=company_id, requested_at=requested_at)
    envelope = Envelope(
        id=str(test_id), source="rollcall", type=SUBSCRIBER_TEST, time=message.requested_at, subject=str(subscriber_id)
    )
    return Notification(envelope.id, envelope.to_structured(message.to_json()))
