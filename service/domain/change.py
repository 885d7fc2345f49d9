"""Everything that can change a member, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias, TypedDict

from service.domain.member import CompanyId, ConnectionId, MemberId, UpstreamState

__all__ = [
    "SOURCE_FIELDS",
    "Cause",
    "Change",
    "HoldPlaced",
    "HoldReleased",
    "InboxKey",
    "LocalChange",
    "Reason",
    "Rules",
    "TimePassed",
    "UpstreamChange",
    "UpstreamFields",
    "UpstreamRemoval",
    "UpstreamUpsert",
    "VersionKind",
    "normalise_national_id",
]


class Reason(StrEnum):
    """Why a member changed; the `reasonCode` of MEMBERSHIP_UPDATED."""

    UPSTREAM_CHANGE = "UPSTREAM_CHANGE"
    DIRECTORY_SYNC = "DIRECTORY_SYNC"
    EXPIRY_RECONCILIATION = "EXPIRY_RECONCILIATION"
    PLAN_CHANGE = "PLAN_CHANGE"
    ADMIN = "ADMIN"
    DRIFT_REPAIR = "DRIFT_REPAIR"


class VersionKind(StrEnum):
    """How a connection's changes are ordered: a number per member, their `updatedAt`, or their arrival."""

    SEQUENCE = "sequence"
    UPDATED_AT = "updated_at"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Cause:
    """Who and what is behind a change; goes into the audit and the event, and holds no personal data."""

    reason: Reason
    actor: str
    correlation_id: str
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class InboxKey:
    """What makes a delivered message the same message."""

    connection_id: ConnectionId
    source: str
    message_id: str


class UpstreamFields(TypedDict, total=False):
    """The fields that a source can own; an absent one is untouched, None clears it."""

    national_id: str | None
    name: str
    email: str | None
    phone: str | None
    state: UpstreamState
    plan: str | None
    starts_at: datetime | None
    expires_at: datetime | None
    metadata: Mapping[str, Any] | None


SOURCE_FIELDS: frozenset[str] = frozenset(UpstreamFields.__annotations__)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a member's company and connection have fixed."""

    company_id: CompanyId
    grace: timedelta
    version_kind: VersionKind = VersionKind.NONE
    # The fields that belong to the source: it touches no others, and nobody else touches these.
    mapped_fields: frozenset[str] = frozenset()
    archived: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upstream:
    company_id: CompanyId
    connection_id: ConnectionId
    external_id: str
    source_version: int
    updated_at: datetime
    # Of the action and the normalised member as received: tells a repeat from a conflict.
    source_hash: bytes
    cause: Cause
    inbox_key: InboxKey | None = None
    # A row of a snapshot may repeat the version that it confirms; an event may not.
    from_snapshot: bool = False
    # When that snapshot began to be read: what another way told of the member since then is newer.
    snapshot_began_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamUpsert(_Upstream):
    """A source says what a member is."""

    fields: UpstreamFields = field(repr=False)
    # The key that a complete snapshot lacks and this one replaces.
    replaces_external_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRemoval(_Upstream):
    """A source says that a member is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Local:
    member_id: MemberId
    # The member's version that whoever wants this had before their eyes.
    read_version: int
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldPlaced(_Local):
    """Somebody here suspends a member, and says why."""

    hold: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldReleased(_Local):
    """Somebody here lifts the local suspension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePassed(_Local):
    """The clock may have made something else of the same facts."""


UpstreamChange: TypeAlias = UpstreamUpsert | UpstreamRemoval
LocalChange: TypeAlias = HoldPlaced | HoldReleased | TimePassed
Change: TypeAlias = UpstreamChange | LocalChange


def normalise_national_id(value: str) -> str:
    """The national id without hyphens and spaces; matched, never checksum-validated."""
    return value.replace("-", "").replace(" ", "")
