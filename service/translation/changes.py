"""What comes in: a contract, a webhook or a record of a directory, as a change of a member."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from pydantic import ValidationError

from contracts.envelope import Envelope
from contracts.errors import describe
from contracts.member_changed import MemberChangedV1, UpstreamMember
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
    is_own_national_id,
    normalise_national_id,
)
from service.domain.directories.delta import Difference
from service.domain.errors import Park
from service.domain.identity import NATIONAL_ID_AS_KEY
from service.domain.member import CompanyId, ConnectionId, UpstreamState
from service.domain.source_hash import content_of, hash_of, within_calendar
from service.domain.source_mapping import MEMBER_FIELDS
from service.domain.webhooks.mapping import Ignored, Unmappable, WebhookMapping, mapped_change
from service.store.sync_delta import DeltaRow

__all__ = ["REMOVAL_HASH", "Snapshot", "to_change", "to_mapped_change", "to_snapshot_change"]

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
    """The change that a difference asks for; raises Park where the record cannot be one, with a text free of values."""
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
    fields = _fields_of(row.content)
    # As a decision would: who only compares, decides nothing.
    if is_own_national_id(row.external_id, fields.get("national_id")):
        raise Park(NATIONAL_ID_AS_KEY)
    return UpstreamUpsert(fields=fields, source_hash=row.source_hash, replaces_external_id=row.replaces, **common)


def _fields_of(content: bytes) -> UpstreamFields:
    """What `content_of` made, checked by the contract; raises Park."""
    try:
        # Under the domain's names, as it stands: nearly all of it fits.
        return _fields(UpstreamMember.model_validate_json(content, by_alias=False, by_name=True))
    except ValidationError:
        pass
    try:
        # Once more under the contract's, which are the ones that its errors tell of.
        member = {_CONTRACT_NAMES[name]: value for name, value in orjson.loads(content).items()}
        return _fields(UpstreamMember.from_json(orjson.dumps(member)))
    except ValidationError as error:
        raise Park(describe(error)) from None


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
