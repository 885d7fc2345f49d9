"""Contract to domain and back; pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

import orjson
from pydantic import ValidationError

from contracts.channels import EVENTS, MEMBERSHIP_UPDATED, membership_updated_routing_key
from contracts.envelope import Envelope
from contracts.errors import describe
from contracts.member_changed import MemberChangedV1, UpstreamMember
from contracts.membership_updated import MembershipUpdatedV1
from service.domain.change import (
    Cause,
    InboxKey,
    Reason,
    UpstreamChange,
    UpstreamFields,
    UpstreamRemoval,
    UpstreamUpsert,
    normalise_national_id,
)
from service.domain.errors import UnfitData
from service.domain.fold import Version
from service.domain.member import CompanyId, ConnectionId, UpstreamState
from service.store.member_events import MemberEventRow
from service.store.outbox import OutboxRow

__all__ = ["event_id", "to_change", "to_member_event", "to_membership_updated"]

_SOURCE: Final = "rollcall"
_HASH_BYTES: Final = 16
# Sources say "never" with the first and the last instant of the calendar, which the driver would write as infinities.
_FIRST: Final = datetime.min.replace(tzinfo=UTC) + timedelta.resolution
_LAST: Final = datetime.max.replace(tzinfo=UTC) - timedelta.resolution


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
        "source_hash": _hash(fields),
        "inbox_key": InboxKey(connection_id, envelope.source, envelope.id),
        "cause": Cause(
            Reason.UPSTREAM_CHANGE, f"connection:{connection_id}", envelope.correlation_id or envelope.id, envelope.traceparent
        ),
    }
    return UpstreamRemoval(**common) if fields is None else UpstreamUpsert(fields=fields, **common)


def _fields(member: UpstreamMember) -> UpstreamFields:
    fields: dict[str, Any] = {name: getattr(member, name) for name in member.model_fields_set}
    if (national_id := fields.get("national_id")) is not None:
        fields["national_id"] = normalise_national_id(national_id)
    if (state := fields.get("state")) is not None:
        fields["state"] = UpstreamState(state)
    for name in ("starts_at", "expires_at"):
        if (instant := fields.get(name)) is not None:
            fields[name] = min(max(instant, _FIRST), _LAST)
    return fields  # type: ignore[return-value]  # the contract's names are the TypedDict's: tested


def _hash(fields: UpstreamFields | None) -> bytes:
    """Of the action and the normalised member as received."""
    return blake2b(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS), digest_size=_HASH_BYTES).digest()


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
    envelope = Envelope(
        id=event_id(after.id, after.version),
        source=_SOURCE,
        type=MEMBERSHIP_UPDATED.message_type,
        time=now,
        subject=str(after.id),
        traceparent=cause.traceparent,
        correlation_id=cause.correlation_id,
    )
    return OutboxRow(
        order_key=after.id,
        exchange=EVENTS.name,
        routing_key=membership_updated_routing_key(after.company_id),
        type=envelope.type,
        message_id=envelope.id,
        correlation_id=cause.correlation_id,
        headers=envelope.to_headers(),
        body=message.to_json().decode(),
        occurred_at=now,
    )
