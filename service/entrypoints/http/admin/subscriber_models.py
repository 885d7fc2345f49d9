"""What the subscriber routes take and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import UUID

from pydantic import Field

from service.domain.change import Reason
from service.domain.directories.configuration import HIDDEN_QUERY
from service.domain.member import Standing
from service.domain.notifications.delivery import DeliveryState, ErrorClass
from service.entrypoints.http.admin.api_model import AnswerModel, Name, RequestModel, Whole
from service.entrypoints.http.admin.example_ids import ADDED_AT, CORRELATION, HER, KEY, LISTS, NOW
from service.entrypoints.http.admin.member_models import Instant
from service.store.deliveries import AttemptRow, DeliveryRow
from service.store.subscribers import SubscriberRow

__all__ = [
    "ChangedField",
    "Delivery",
    "DeliveryDetail",
    "NewSecretBody",
    "NewSubscriberBody",
    "ReplayBody",
    "ResumedSubscriber",
    "Subscriber",
    "SubscriberPatch",
    "given_wants",
    "shown_delivery",
    "shown_detail",
    "shown_resumed",
    "shown_subscriber",
]

_MOST_VALUES: Final = 50
_DAY_MINUTES: Final = 24 * 60
_OVERLAP_DAYS: Final = 30

ChangedField = Literal[
    "nationalId",
    "name",
    "email",
    "phone",
    "state",
    "plan",
    "startsAt",
    "expiresAt",
    "metadata",
    "upstreamState",
    "hold",
    "connectionId",
    "externalId",
]
Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2048,
        description="Where events are posted. Whether the address may be called is known when it is dialled.",
        examples=["https://lists.example.com/rollcall"],
    ),
]
SecretReference = Annotated[
    str,
    Field(
        max_length=500,
        description="Where the signing secret is, never itself: env:ROLLCALL_SECRET_NAME or file:NAME, granted by the operator.",
        examples=["env:ROLLCALL_SECRET_LISTS"],
    ),
]


class Wants(RequestModel):
    """Which events: one of each list that is not empty, and any of the changed fields; all that is left out is no condition."""

    reason_codes: list[Reason] = Field(default_factory=list, max_length=_MOST_VALUES)
    new_states: list[Standing] = Field(default_factory=list, max_length=_MOST_VALUES, examples=[["expired", "removed"]])
    changed_fields: list[ChangedField] = Field(default_factory=list, max_length=_MOST_VALUES, examples=[["state"]])


class NewSubscriberBody(RequestModel):
    """A system that is to be told of what happens from now on."""

    name: Name = Field(examples=["mailing lists"])
    url: Url
    secret_reference: SecretReference
    wants: Wants = Field(default_factory=Wants)
    in_order: bool = Field(
        default=False,
        strict=True,
        description="A member's version waits until the one before it is delivered, or was tried as often as it is.",
    )

    example: ClassVar[dict[str, Any]] = {
        "name": "mailing lists",
        "url": "https://lists.example.com/rollcall",
        "secretReference": "env:ROLLCALL_SECRET_LISTS",
        "wants": {"newStates": ["expired", "removed"]},
        "inOrder": True,
    }


class SubscriberPatch(RequestModel):
    """What is to change; what is absent stays. `wants` takes the place of all that was wanted."""

    name: Name = Field(default_factory=str)
    url: Url = Field(default_factory=str)
    wants: Wants = Field(default_factory=Wants)
    in_order: bool = Field(default_factory=bool, strict=True)

    example: ClassVar[dict[str, Any]] = {"url": "https://lists.example.com/members", "wants": {"changedFields": ["state", "plan"]}}


class NewSecretBody(RequestModel):
    """Another secret to sign with, and how long the ones before it sign too."""

    secret_reference: SecretReference
    overlap_minutes: Whole = Field(
        default=_DAY_MINUTES, ge=0, le=_OVERLAP_DAYS * _DAY_MINUTES, description="0: the ones before it end at once."
    )

    example: ClassVar[dict[str, Any]] = {"secretReference": "env:ROLLCALL_SECRET_LISTS_2027", "overlapMinutes": 1440}


class ReplayBody(RequestModel):
    """From when on."""

    since: Instant = Field(examples=["2026-11-01T00:00:00Z"])

    example: ClassVar[dict[str, Any]] = {"since": "2026-11-01T00:00:00Z"}


class ShownWants(AnswerModel):
    """Which events it wants; an empty list is no condition."""

    reason_codes: list[Reason]
    new_states: list[Standing]
    changed_fields: list[str]


class Subscriber(AnswerModel):
    """A system that is told of the company's events, and how it fares. Of its address the query is not shown."""

    id: UUID
    name: str
    url: str
    wants: ShownWants
    in_order: bool
    state: Literal["active", "paused", "disabled"]
    disabled_because: Literal["gone", "failing"] | None = Field(
        description="`gone`: it answered 410. `failing`: no attempt succeeded for 120 hours."
    )
    state_changed_at: datetime
    state_changed_by: str
    failing_since: datetime | None = Field(description="Since when no attempt succeeded; null where the last one did.")
    wait_until: datetime | None = Field(description="It asked not to be called before.")
    secret_references: list[str] = Field(description="What it is signed with now; several while one replaces another.")
    retired_references: list[str] = Field(description="Those of them that end.")
    undelivered: int = Field(description="How many deliveries are on their way; 1000 means that many or more.")
    created_at: datetime
    created_by: str

    example: ClassVar[dict[str, Any]] = {
        "id": LISTS,
        "name": "mailing lists",
        "url": "https://lists.example.com/rollcall",
        "wants": {"reasonCodes": [], "newStates": ["expired", "removed"], "changedFields": []},
        "inOrder": True,
        "state": "active",
        "disabledBecause": None,
        "stateChangedAt": ADDED_AT,
        "stateChangedBy": f"key:{KEY}",
        "failingSince": None,
        "waitUntil": None,
        "secretReferences": ["env:ROLLCALL_SECRET_LISTS"],
        "retiredReferences": [],
        "undelivered": 0,
        "createdAt": ADDED_AT,
        "createdBy": f"key:{KEY}",
    }


class ResumedSubscriber(Subscriber):
    """The same after it was resumed."""

    missed_since: datetime | None = Field(
        description="It was disabled, and may have missed what happened since then; a replay since then brings it."
    )

    example: ClassVar[dict[str, Any]] = {**Subscriber.example, "stateChangedAt": NOW, "missedSince": "2026-11-28T18:00:00Z"}


class Delivery(AnswerModel):
    """One event on its way to one subscriber. A test is about nobody: its member and version are null."""

    id: int
    member_id: UUID | None
    version: int | None
    replayed: bool
    state: DeliveryState = Field(description="`waiting`: for an earlier version of the member. `exhausted`: it is tried no more.")
    attempts: int
    next_attempt_at: datetime | None = Field(description="null where there is none, or one is under way.")
    in_flight: bool
    last_status: int | None
    last_error: str | None
    correlation_id: str
    created_at: datetime
    finished_at: datetime | None

    example: ClassVar[dict[str, Any]] = {
        "id": 4711,
        "memberId": HER,
        "version": 2,
        "replayed": False,
        "state": "pending",
        "attempts": 1,
        "nextAttemptAt": "2026-12-01T12:00:04Z",
        "inFlight": False,
        "lastStatus": 503,
        "lastError": "lists.example.com answers 503",
        "correlationId": CORRELATION,
        "createdAt": NOW,
        "finishedAt": None,
    }


class Attempt(AnswerModel):
    """One attempt: what came of it, and the beginning of the answer's body."""

    number: int
    started_at: datetime
    seconds: float
    outcome: Literal["delivered", "failed", "gone"]
    status: int | None
    error_class: ErrorClass | None
    error: str | None
    response: str | None

    example: ClassVar[dict[str, Any]] = {
        "number": 1,
        "startedAt": "2026-12-01T12:00:00.200000Z",
        "seconds": 0.031,
        "outcome": "failed",
        "status": 503,
        "errorClass": "status",
        "error": "lists.example.com answers 503",
        "response": "down for maintenance",
    }


class DeliveryDetail(Delivery):
    """The same with every attempt, in their order."""

    attempt_log: list[Attempt]

    example: ClassVar[dict[str, Any]] = {**Delivery.example, "attemptLog": [Attempt.example]}


def given_wants(wants: Wants) -> dict[str, list[str]]:
    """As the action takes them."""
    return {
        "reasonCodes": [code.value for code in wants.reason_codes],
        "newStates": [state.value for state in wants.new_states],
        "changedFields": list(wants.changed_fields),
    }


def shown_subscriber(row: SubscriberRow) -> Subscriber:
    """As it is answered."""
    return Subscriber.model_validate(_told(row))


def shown_resumed(row: SubscriberRow, missed_since: datetime | None) -> ResumedSubscriber:
    """As it is answered."""
    return ResumedSubscriber.model_validate({**_told(row), "missed_since": missed_since})


def _told(row: SubscriberRow) -> dict[str, object]:
    address, query, _ = row.url.partition("?")
    return {
        "id": row.id,
        "name": row.name,
        # It may hold what opens it.
        "url": address + HIDDEN_QUERY if query else address,
        "wants": {"reason_codes": row.reason_codes, "new_states": row.new_states, "changed_fields": row.changed_fields},
        "in_order": row.in_order,
        "state": row.state.value,
        "disabled_because": None if row.disabled_because is None else row.disabled_because.value,
        "state_changed_at": row.state_changed_at,
        "state_changed_by": row.state_changed_by,
        "failing_since": row.failing_since,
        "wait_until": row.wait_until,
        "secret_references": row.secret_references,
        "retired_references": row.retired_references,
        "undelivered": row.undelivered,
        "created_at": row.created_at,
        "created_by": row.created_by,
    }


def shown_delivery(row: DeliveryRow) -> Delivery:
    """As it is answered."""
    return Delivery.model_validate(_delivery(row))


def shown_detail(row: DeliveryRow, attempts: list[AttemptRow]) -> DeliveryDetail:
    """As it is answered."""
    return DeliveryDetail.model_validate({**_delivery(row), "attempt_log": [_attempt(one) for one in attempts]})


def _delivery(row: DeliveryRow) -> dict[str, object]:
    in_flight = row.claimed_at is not None
    return {
        "id": row.id,
        "member_id": row.member_id,
        "version": row.version,
        # A test has an id of its own there.
        "replayed": row.replay_id is not None and row.member_id is not None,
        "state": row.state,
        "attempts": row.attempts,
        "next_attempt_at": None if in_flight else row.due_at,
        "in_flight": in_flight,
        "last_status": row.last_status,
        "last_error": row.last_error,
        "correlation_id": row.correlation_id,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
    }


def _attempt(row: AttemptRow) -> dict[str, object]:
    return {
        "number": row.number,
        "started_at": row.started_at,
        "seconds": round(row.duration.total_seconds(), 3),
        "outcome": row.outcome,
        "status": row.status,
        "error_class": row.error_class,
        "error": row.error,
        "response": row.response,
    }
