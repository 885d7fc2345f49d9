"""Members as they are sent and answered."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, StringConstraints

from contracts import fields as contract
from service.domain.access import Denial, access
from service.domain.change import MemberFields, normalise_national_id
from service.domain.member import Standing, UpstreamState
from service.domain.source_hash import within_calendar
from service.entrypoints.http.admin.api_model import AnswerModel, RequestModel
from service.entrypoints.http.admin.example_ids import ADDED_AT, CORRELATION, ENDS_AT, HER, KEY, NOW, REGISTER, STARTS_AT
from service.store.member_history import PastVersion
from service.store.member_views import MemberView, VerifiedMember

__all__ = [
    "Access",
    "HeldFor",
    "Member",
    "MemberDetail",
    "MemberPatch",
    "MemberVersion",
    "NationalId",
    "NewMember",
    "fields_of",
    "shown_access",
    "shown_detail",
    "shown_member",
    "shown_version",
]

_RFC3339: Final = re.compile(contract.RFC3339)


def _instant(value: object) -> datetime:
    """By the rule of the messages: a date alone, a number, or a time of nobody knows where is none."""
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise ValueError("must be an RFC 3339 time with its zone")
    try:
        return within_calendar(datetime.fromisoformat(value.upper()).astimezone(UTC))
    except (ValueError, OverflowError):
        raise ValueError("must be a time of the years 1 to 9999") from None


def _normalised(national_id: str) -> str:
    if not (normalised := normalise_national_id(national_id)).strip():
        raise ValueError("must be more than hyphens and spaces")
    return normalised


Instant = Annotated[datetime, BeforeValidator(_instant)]
NationalId = Annotated[
    contract.NationalId,
    AfterValidator(_normalised),
    Field(description="Hyphens and spaces in it mean nothing.", examples=["010101-1234"]),
]
State = Literal["pending", "active", "suspended"]
Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=contract.NO_CONTROL),
    Field(examples=["owes 2026"]),
]


class _MemberBody(RequestModel):
    """Fields of a member: absent, nothing is said of it; null clears it."""

    national_id: NationalId | None = None
    email: contract.Email | None = Field(default=None, examples=["ada@example.org"])
    phone: contract.Phone | None = Field(default=None, examples=["+354 555 1234"])
    state: State = Field(
        default_factory=lambda: "active", description="What is said of the member; dates and holds may make more of it."
    )
    plan: contract.Plan | None = Field(default=None, examples=["annual"])
    starts_at: Instant | None = Field(default=None, examples=["2026-01-01T00:00:00Z"])
    expires_at: Instant | None = Field(default=None, description="null: never", examples=["2027-01-01T00:00:00Z"])
    metadata: contract.Metadata | None = Field(default=None, examples=[{"section": "alto"}])


class NewMember(_MemberBody):
    """A member that no source tells of."""

    name: contract.Name = Field(examples=["Ada Lovelace"])

    example: ClassVar[dict[str, Any]] = {
        "name": "Ada Lovelace",
        "nationalId": "101215-9991",
        "email": "ada@example.org",
        "phone": "+354 555 1234",
        "plan": "annual",
        "startsAt": STARTS_AT,
        "expiresAt": ENDS_AT,
        "metadata": {"section": "alto"},
    }


class MemberPatch(_MemberBody):
    """What is to change; what is absent stays."""

    name: contract.Name = Field(default_factory=str, examples=["Ada King"])

    example: ClassVar[dict[str, Any]] = {"name": "Ada King", "phone": None, "expiresAt": "2028-01-01T00:00:00Z"}


class HeldFor(RequestModel):
    """A local suspension, which no source lifts."""

    reason: Reason

    example: ClassVar[dict[str, Any]] = {"reason": "owes 2026"}


class Member(AnswerModel):
    """A member. `state` is what its facts make of it at `readAt`, whatever the last event said."""

    id: UUID
    connection_id: UUID | None
    external_id: str | None
    national_id: str | None
    name: str | None
    email: str | None
    phone: str | None
    metadata: dict[str, JsonValue]
    state: Standing
    upstream_state: UpstreamState
    hold: str | None
    held_at: datetime | None
    plan: str | None
    pending_plan: str | None
    pending_start: date | None
    pending_expires_at: datetime | None
    starts_at: datetime | None
    expires_at: datetime | None
    removed_at: datetime | None
    version: int
    created_at: datetime
    read_at: datetime

    example: ClassVar[dict[str, Any]] = {
        "id": HER,
        "connectionId": REGISTER,
        "externalId": "ada",
        "nationalId": "1012159991",
        "name": "Ada Lovelace",
        "email": "ada@example.org",
        "phone": "+354 555 1234",
        "metadata": {"section": "alto"},
        "state": "suspended",
        "upstreamState": "active",
        "hold": "owes 2026",
        "heldAt": "2026-11-20T16:05:00Z",
        "plan": "annual",
        "pendingPlan": "family",
        "pendingStart": "2027-01-01",
        "pendingExpiresAt": "2028-01-01T00:00:00Z",
        "startsAt": STARTS_AT,
        "expiresAt": ENDS_AT,
        "removedAt": None,
        "version": 3,
        "createdAt": ADDED_AT,
        "readAt": NOW,
    }


class MemberDetail(Member):
    """The same, and when its source last told of it or a complete sync found it as it is; null where neither was ever so."""

    last_verified_at: datetime | None

    example: ClassVar[dict[str, Any]] = {**Member.example, "lastVerifiedAt": "2026-12-01T11:30:00Z"}


class MemberVersion(AnswerModel):
    """One version of a member: who made it and why, and the values of the changed fields before and after."""

    version: int
    occurred_at: datetime
    reason_code: contract.ReasonCode
    actor: str
    correlation_id: str
    previous_state: Standing | None
    new_state: Standing
    changed_fields: list[str]
    before: dict[str, JsonValue]
    after: dict[str, JsonValue]
    connection_id: UUID | None
    external_id: str | None
    plan: str | None
    starts_at: datetime | None
    expires_at: datetime | None

    example: ClassVar[dict[str, Any]] = {
        "version": 2,
        "occurredAt": "2026-11-20T16:05:00Z",
        "reasonCode": "ADMIN",
        "actor": f"key:{KEY}",
        "correlationId": CORRELATION,
        "previousState": "active",
        "newState": "suspended",
        "changedFields": ["hold", "state"],
        "before": {"hold": None, "state": "active"},
        "after": {"hold": "owes 2026", "state": "suspended"},
        "connectionId": REGISTER,
        "externalId": "ada",
        "plan": "annual",
        "startsAt": STARTS_AT,
        "expiresAt": ENDS_AT,
    }


class Access(AnswerModel):
    """Whether the member may come in at `readAt`, and if not, why."""

    member_id: UUID
    access: bool
    denied_because: Denial | None
    state: Standing
    starts_at: datetime | None
    expires_at: datetime | None
    read_at: datetime

    example: ClassVar[dict[str, Any]] = {
        "memberId": HER,
        "access": False,
        "deniedBecause": "suspended",
        "state": "suspended",
        "startsAt": STARTS_AT,
        "expiresAt": ENDS_AT,
        "readAt": NOW,
    }


def fields_of(body: NewMember | MemberPatch) -> MemberFields:
    """What the body says, by the domain's names."""
    fields: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if "state" in fields:
        fields["state"] = UpstreamState(fields["state"])
    return fields  # type: ignore[return-value]  # the body's names are the TypedDict's: tested


def shown_member(view: MemberView) -> Member:
    """As a list shows it."""
    return Member(**_facts(view))


def shown_detail(view: VerifiedMember) -> MemberDetail:
    """As it is shown alone."""
    return MemberDetail(**_facts(view), last_verified_at=view.verified_at)


def _facts(view: MemberView) -> dict[str, Any]:
    return {name: getattr(view, name) for name in Member.model_fields}


def shown_version(past: PastVersion) -> MemberVersion:
    """As the history shows it."""
    return MemberVersion(**{name: getattr(past, name) for name in MemberVersion.model_fields})


def shown_access(view: MemberView) -> Access:
    """The answer to who stands at the door."""
    found = access(Standing(view.state), view.starts_at, view.read_at)
    return Access(
        member_id=view.id,
        access=found.granted,
        denied_because=found.denial,
        state=Standing(view.state),
        starts_at=view.starts_at,
        expires_at=view.expires_at,
        read_at=view.read_at,
    )
