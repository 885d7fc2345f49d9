"""Contract to domain and back; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
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
from contracts.member_changed import MemberChangedV1, UpstreamMember
from contracts.members_imported import MembersImportedV1
from contracts.membership_updated import MembershipUpdatedV1
from contracts.webhook_received import WebhookReceivedV1
from service.domain.change import (
    Cause,
    InboxKey,
    Reason,
    UpstreamChange,
    UpstreamFields,
    UpstreamRemoval,
    UpstreamUpsert,
    VersionKind,
    normalise_national_id,
)
from service.domain.directories.delta import Difference
from service.domain.errors import Park, UnfitData
from service.domain.fold import Version
from service.domain.member import CompanyId, ConnectionId, UpstreamState
from service.domain.source_hash import content_of, hash_of, within_calendar
from service.domain.source_mapping import MEMBER_FIELDS
from service.domain.webhooks.mapping import Ignored, Unmappable, WebhookMapping, mapped_change
from service.store.jobs import JobNotice
from service.store.member_events import MemberEventRow, PastEvent
from service.store.outbox import OutboxRow
from service.store.sync_delta import DeltaRow

__all__ = [
    "REMOVAL_HASH",
    "Snapshot",
    "event_id",
    "to_change",
    "to_job_requested",
    "to_mapped_change",
    "to_member_event",
    "to_members_imported",
    "to_membership_updated",
    "to_replayed_event",
    "to_snapshot_change",
    "to_webhook_received",
]

_SOURCE: Final = "rollcall"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CONTRACT_NAMES: Final = {name: contract_name for contract_name, name in MEMBER_FIELDS.items()}
# What is remembered of a removal, whoever is removed.
REMOVAL_HASH: Final = hash_of(content_of(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Whose members a directory told of, since when, and who wants to know."""

    company_id: CompanyId
    connection_id: ConnectionId
    version_kind: VersionKind
    began_at: datetime
    cause: Cause


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


def to_change(message: MemberChangedV1, envelope: Envelope) -> UpstreamChange:
    """The change that a MEMBER_CHANGED asks for."""
    connection_id = ConnectionId(message.connection_id)
    fields = _fields(message.member) if message.member is not None else None
    common: dict[str, Any] = {
        "company_id": CompanyId(message.company_id),
        "connection_id": connection_id,
        "external_id": message.external_id,
        "source_version": message.version,
        "updated_at": message.updated_at,
        "source_hash": hash_of(content_of(fields)),
        "inbox_key": InboxKey(connection_id, envelope.source, envelope.id),
        "cause": Cause(
            Reason.UPSTREAM_CHANGE, f"connection:{connection_id}", envelope.correlation_id or envelope.id, envelope.traceparent
        ),
    }
    return UpstreamRemoval(**common) if fields is None else UpstreamUpsert(fields=fields, **common)


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


def to_mapped_change(message: WebhookReceivedV1, envelope: Envelope, mapping: WebhookMapping) -> UpstreamChange | Ignored:
    """The change that a webhook means by its connection's mapping; raises Park, with a text free of values."""
    try:
        payload = orjson.loads(message.body)
        if not isinstance(payload, dict):
            raise Park("the webhook is no JSON object")
        mapped = mapped_change(mapping, payload, message.received_at)
        if isinstance(mapped, Ignored):
            return mapped
        body: dict[str, object] = {
            "companyId": str(message.company_id),
            "connectionId": str(message.connection_id),
            "externalId": mapped.external_id,
            "action": mapped.action,
            "version": mapped.version,
            "updatedAt": mapped.updated_at,
        }
        if mapped.member is not None:
            body["member"] = mapped.member
        # By the contract of every other upstream change, so that the same rules hold whichever way it comes.
        return to_change(MemberChangedV1.from_json(orjson.dumps(body)), envelope)
    except Unmappable as error:
        raise Park(str(error)) from None
    except ValidationError as error:
        raise Park(describe(error)) from None
    except orjson.JSONDecodeError:
        raise Park("the webhook is no JSON") from None


def to_snapshot_change(row: DeltaRow, snapshot: Snapshot) -> UpstreamChange:
    """The change that a difference asks for; raises Park where the record does not fit the contract, with a text free of values."""
    if row.external_id is None:
        raise Park("the record has no key")
    common: dict[str, Any] = {
        "company_id": snapshot.company_id,
        "connection_id": snapshot.connection_id,
        "external_id": row.external_id,
        # Of what does not say its version nothing is newer than what is known.
        "source_version": row.version or 0,
        "updated_at": row.updated_at or _version_time(row, snapshot),
        "cause": snapshot.cause,
        "from_snapshot": True,
        "snapshot_began_at": snapshot.began_at,
    }
    if row.what in (Difference.LEFT, Difference.ABSENT):
        return UpstreamRemoval(source_hash=REMOVAL_HASH, **common)
    if row.content is None or row.source_hash is None:
        raise Park(row.reason or "the record cannot be read")
    member = {_CONTRACT_NAMES[name]: value for name, value in orjson.loads(row.content).items()}
    try:
        fields = _fields(UpstreamMember.from_json(orjson.dumps(member)))
    except ValidationError as error:
        raise Park(describe(error)) from None
    return UpstreamUpsert(fields=fields, source_hash=row.source_hash, replaces_external_id=row.replaces, **common)


def _version_time(row: DeltaRow, snapshot: Snapshot) -> datetime:
    """When what has no time of its own was so: of an absence, the member's last known version, for nobody says when they left."""
    if snapshot.version_kind is VersionKind.UPDATED_AT:
        return _EPOCH + timedelta(microseconds=row.version or 0)
    return snapshot.began_at


def _fields(member: UpstreamMember) -> UpstreamFields:
    fields: dict[str, Any] = {name: getattr(member, name) for name in member.model_fields_set}
    if (national_id := fields.get("national_id")) is not None:
        fields["national_id"] = normalise_national_id(national_id)
    if (state := fields.get("state")) is not None:
        fields["state"] = UpstreamState(state)
    for name in ("starts_at", "expires_at"):
        if (instant := fields.get(name)) is not None:
            fields[name] = within_calendar(instant)
    return fields  # type: ignore[return-value]  # the contract's names are the TypedDict's: tested


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
        changed_fields=",".join(changed),
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
    message = MembershipUpdatedV1(
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
    row = _to_outbox_row(message, past.correlation_id, past.traceparent)
    return replace(row, headers={**row.headers, REPLAYED_HEADER: "true"})


def _to_outbox_row(message: MembershipUpdatedV1, correlation_id: str, traceparent: str | None) -> OutboxRow:
    envelope = Envelope(
        id=event_id(message.member_id, message.version),
        source=_SOURCE,
        type=MEMBERSHIP_UPDATED.message_type,
        time=message.occurred_at,
        subject=str(message.member_id),
        traceparent=traceparent,
        correlation_id=correlation_id,
    )
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
