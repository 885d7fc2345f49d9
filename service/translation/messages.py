"""What goes out: messages and audit rows of what was decided, ready to be stored or published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from contracts.channels import (
    EVENTS,
    JOB_REQUESTED,
    MEMBERS_IMPORTED,
    MEMBERSHIP_UPDATED,
    WEBHOOK_RECEIVED,
    job_routing_key,
    members_imported_routing_key,
    membership_updated_routing_key,
    webhook_routing_key,
)
from contracts.envelope import Envelope
from contracts.errors import describe
from contracts.failures import REPLAYED_HEADER
from contracts.job_requested import JobRequestedV1
from contracts.members_imported import MembersImportedV1
from contracts.membership_updated import MembershipUpdatedV1
from contracts.webhook_received import WebhookReceivedV1
from service.domain.errors import UnfitData
from service.domain.fold import Version
from service.domain.member import ConnectionId
from service.store.jobs import JobNotice
from service.store.member_events import MemberEventRow, PastEvent
from service.store.outbox import OutboxRow

__all__ = [
    "WebhookMessage",
    "event_id",
    "to_event_envelope",
    "to_job_requested",
    "to_member_event",
    "to_members_imported",
    "to_membership_updated",
    "to_past_message",
    "to_replayed_event",
    "to_webhook_received",
]

_SOURCE: Final = "rollcall"


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """A WEBHOOK_RECEIVED, ready to be published."""

    exchange: str
    routing_key: str
    type: str
    message_id: str
    correlation_id: str
    headers: Mapping[str, str]
    body: str = field(repr=False)
    occurred_at: datetime


def to_webhook_received(message: WebhookReceivedV1, *, correlation_id: str, trace: Mapping[str, str | None]) -> WebhookMessage:
    """The WEBHOOK_RECEIVED of a webhook; `trace` is the sender's trace context, where it gave one."""
    envelope = Envelope(
        id=message.dedupe_key,
        source=f"urn:rollcall:webhook:{message.connection_id}",
        type=WEBHOOK_RECEIVED.message_type,
        time=message.received_at,
        traceparent=trace.get("traceparent"),
        tracestate=trace.get("tracestate"),
        correlation_id=correlation_id,
    )
    return WebhookMessage(
        exchange=WEBHOOK_RECEIVED.exchange.name,
        routing_key=webhook_routing_key(message.connection_id),
        type=envelope.type,
        message_id=envelope.id,
        correlation_id=correlation_id,
        headers=envelope.to_headers(),
        body=message.to_json().decode(),
        occurred_at=message.received_at,
    )


def event_id(member_id: object, version: int) -> str:
    """The id of the one event of a member version: the same however often it is sent."""
    return f"{member_id}:{version}"


def to_member_event(version: Version, now: datetime) -> MemberEventRow:
    """The audit row of a new version."""
    after, changed, cause = version.transition.after, version.transition.changed, version.change.cause
    return MemberEventRow(
        member_id=after.id,
        version=after.version,
        company_id=after.company_id,
        connection_id=after.connection_id,
        external_id=after.external_id,
        occurred_at=now,
        reason_code=cause.reason,
        previous_state=version.transition.previous_state,
        new_state=after.state,
        changed_fields=tuple(changed),
        plan=after.plan,
        starts_at=after.starts_at,
        expires_at=after.expires_at,
        before={name: old for name, (old, _) in changed.items()},
        after={name: new for name, (_, new) in changed.items()},
        actor=cause.actor,
        correlation_id=cause.correlation_id,
        traceparent=cause.traceparent,
    )


def to_membership_updated(version: Version, now: datetime) -> OutboxRow:
    """The MEMBERSHIP_UPDATED of a new version, ready to be sent; raises UnfitData where the contract has no room for a fact."""
    after, cause = version.transition.after, version.change.cause
    previous = version.transition.previous_state
    try:
        message = MembershipUpdatedV1(
            member_id=after.id,
            company_id=after.company_id,
            connection_id=after.connection_id,
            external_id=after.external_id,
            previous_state=previous.value if previous is not None else None,
            new_state=after.state.value,
            reason_code=cause.reason.value,
            changed_fields=tuple(version.transition.changed),  # type: ignore[arg-type]  # checked by the contract as it is built
            plan=after.plan,
            starts_at=after.starts_at,
            expires_at=after.expires_at,
            version=after.version,
            occurred_at=now,
        )
    except ValidationError as error:
        text = f"MEMBERSHIP_UPDATED cannot tell of it: {describe(error)}"
        raise UnfitData(text) from None
    return _to_outbox_row(message, cause.correlation_id, cause.traceparent)


def to_members_imported(versions: Sequence[Version], now: datetime) -> list[OutboxRow]:
    """The MEMBERS_IMPORTED of new members, one for each connection, ready to be sent; they have no event of their own."""
    of_connection: dict[ConnectionId, list[Version]] = {}
    for version in versions:
        if (connection_id := version.transition.after.connection_id) is not None:
            of_connection.setdefault(connection_id, []).append(version)
    rows = []
    for connection_id, imported in of_connection.items():
        first = imported[0]
        company_id, cause = first.transition.after.company_id, first.change.cause
        message = MembersImportedV1(company_id=company_id, connection_id=connection_id, members=len(imported), occurred_at=now)
        envelope = Envelope(
            id=f"{connection_id}:{first.transition.after.id}",
            source=_SOURCE,
            type=MEMBERS_IMPORTED.message_type,
            time=now,
            subject=str(connection_id),
            traceparent=cause.traceparent,
            correlation_id=cause.correlation_id,
        )
        rows.append(
            OutboxRow(
                order_key=connection_id,
                exchange=EVENTS.name,
                routing_key=members_imported_routing_key(company_id),
                type=envelope.type,
                message_id=envelope.id,
                correlation_id=cause.correlation_id,
                headers=envelope.to_headers(),
                body=message.to_json().decode(),
                occurred_at=now,
            )
        )
    return rows


def to_job_requested(notice: JobNotice) -> OutboxRow:
    """The message that a job is queued, ready to be sent; each time it is said is a message of its own."""
    envelope = Envelope(
        id=f"{notice.id}:{notice.said_at.isoformat()}",
        source=_SOURCE,
        type=JOB_REQUESTED.type_of(notice.kind),
        time=notice.said_at,
        subject=str(notice.id),
        traceparent=notice.traceparent,
        correlation_id=notice.correlation_id,
    )
    body = JobRequestedV1(job_id=notice.id, kind=notice.kind, company_id=notice.company_id, subject_id=notice.subject_id)
    return OutboxRow(
        order_key=notice.id,
        exchange=JOB_REQUESTED.exchange.name,
        routing_key=job_routing_key(notice.kind),
        type=envelope.type,
        message_id=envelope.id,
        correlation_id=notice.correlation_id,
        headers=envelope.to_headers(),
        body=body.to_json().decode(),
        occurred_at=notice.said_at,
    )


def to_replayed_event(past: PastEvent) -> OutboxRow:
    """The MEMBERSHIP_UPDATED of a past version as it was said, under the same id, marked as not new."""
    row = _to_outbox_row(to_past_message(past), past.correlation_id, past.traceparent)
    return replace(row, headers={**row.headers, REPLAYED_HEADER: "true"})


def to_past_message(past: PastEvent) -> MembershipUpdatedV1:
    """What the event of a past version said."""
    return MembershipUpdatedV1(
        member_id=past.member_id,
        company_id=past.company_id,
        connection_id=past.connection_id,
        external_id=past.external_id,
        previous_state=past.previous_state,  # type: ignore[arg-type]  # written from this very contract
        new_state=past.new_state,  # type: ignore[arg-type]  # so is this
        reason_code=past.reason_code,  # type: ignore[arg-type]  # and this
        changed_fields=tuple(past.changed_fields),  # type: ignore[arg-type]  # and this
        plan=past.plan,
        starts_at=past.starts_at,
        expires_at=past.expires_at,
        version=past.version,
        occurred_at=past.occurred_at,
    )


def to_event_envelope(message: MembershipUpdatedV1, correlation_id: str, traceparent: str | None) -> Envelope:
    """The attributes of a MEMBERSHIP_UPDATED, the same whichever way it goes."""
    member_id = str(message.member_id)
    return Envelope(
        id=event_id(member_id, message.version),
        source=_SOURCE,
        type=MEMBERSHIP_UPDATED.message_type,
        time=message.occurred_at,
        subject=member_id,
        traceparent=traceparent,
        correlation_id=correlation_id,
    )


def _to_outbox_row(message: MembershipUpdatedV1, correlation_id: str, traceparent: str | None) -> OutboxRow:
    envelope = to_event_envelope(message, correlation_id, traceparent)
    return OutboxRow(
        order_key=message.member_id,
        exchange=EVENTS.name,
        routing_key=membership_updated_routing_key(message.company_id),
        type=envelope.type,
        message_id=envelope.id,
        correlation_id=correlation_id,
        headers=envelope.to_headers(),
        body=message.to_json().decode(),
        occurred_at=message.occurred_at,
    )
