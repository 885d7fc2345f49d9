"""Everything that can change a member, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias, TypedDict

from service.domain.member import CompanyId, ConnectionId, MemberId, Standing, UpstreamState

__all__ = [
    "SOURCE_FIELDS",
    "AuditedFacts",
    "Cause",
    "Change",
    "DriftRepaired",
    "HoldPlaced",
    "HoldReleased",
    "InboxKey",
    "LocalChange",
    "MemberCreated",
    "MemberEdited",
    "MemberErased",
    "MemberFields",
    "MemberRemoved",
    "PendingPlan",
    "PlanChange",
    "PlanChangeCancelled",
    "PlanChangeDue",
    "PlanChangeRequested",
    "Reason",
    "Rules",
    "TimePassed",
    "UpstreamChange",
    "UpstreamFields",
    "UpstreamRemoval",
    "UpstreamUpsert",
    "VersionKind",
    "is_own_national_id",
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
# What somebody here may say of a member is what a source may.
MemberFields: TypeAlias = UpstreamFields


@dataclass(frozen=True, slots=True)
class Rules:
    """What a member's company and connection have fixed."""

    company_id: CompanyId
    grace: timedelta
    version_kind: VersionKind = VersionKind.NONE
    # The fields that belong to the source: it touches no others, and nobody else touches these.
    mapped_fields: frozenset[str] = frozenset()
    archived: bool = False
    # Since when the source's records mean what they mean now; None: since ever.
    meaning_changed_at: datetime | None = None


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


@dataclass(frozen=True, slots=True)
class PendingPlan:
    """The plan that a member has from a day on; `expires_at` None: that stays as it is."""

    plan: str
    starts_on: date
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChangeRequested(_Local):
    """Somebody plans another plan for a member, in place of what was planned before."""

    planned: PendingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChangeCancelled(_Local):
    """Somebody withdraws what was planned for a member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChangeDue(_Local):
    """The day has come on which a member's pending plan begins, as it was read."""

    due: PendingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePassed(_Local):
    """The clock may have made something else of the same facts; a pending plan that is due begins first."""

    due: PendingPlan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberCreated:
    """Somebody here adds a member that no source tells of; `member_id` names the row that it makes."""

    company_id: CompanyId
    member_id: MemberId
    cause: Cause
    fields: MemberFields = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberEdited(_Local):
    """Somebody here says what a member is, in the fields that no source owns."""

    # Whose national ids are looked through for the one that it may bring.
    company_id: CompanyId
    fields: MemberFields = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRemoved(_Local):
    """Somebody here takes out a member that no source tells of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberErased(_Local):
    """What is personal of a member has to go, for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedFacts:
    """What a member's audit ends in; `upstream_state` None: it never said."""

    version: int
    state: Standing
    plan: str | None
    starts_at: datetime | None
    expires_at: datetime | None
    upstream_state: UpstreamState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRepaired(_Local):
    """The member's row was found to differ from its audit, which is right."""

    audited: AuditedFacts


UpstreamChange: TypeAlias = UpstreamUpsert | UpstreamRemoval
PlanChange: TypeAlias = PlanChangeRequested | PlanChangeCancelled | PlanChangeDue
LocalChange: TypeAlias = (
    MemberCreated
    | MemberEdited
    | MemberRemoved
    | MemberErased
    | HoldPlaced
    | HoldReleased
    | PlanChange
    | TimePassed
    | DriftRepaired
)
Change: TypeAlias = UpstreamChange | LocalChange


def normalise_national_id(value: str) -> str:
    """The national id without hyphens and spaces; matched, never checksum-validated."""
    return value.replace("-", "").replace(" ", "")


def is_own_national_id(external_id: str, national_id: object) -> bool:
    """Whether a member's key at its source is the member's national id, hyphens and spaces aside: keys travel in events."""
    if not isinstance(national_id, str):
        return False
    normalised = normalise_national_id(national_id)
    return bool(normalised) and normalised == normalise_national_id(external_id)
