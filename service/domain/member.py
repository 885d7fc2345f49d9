"""A member's facts, and the one function that says what they make of them at a given time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final, NewType
from uuid import UUID

__all__ = [
    "CompanyId",
    "ConnectionId",
    "Member",
    "MemberId",
    "Standing",
    "UpstreamState",
    "altered_member",
    "member_of",
    "standing",
]

CompanyId = NewType("CompanyId", UUID)
ConnectionId = NewType("ConnectionId", UUID)
MemberId = NewType("MemberId", UUID)


class UpstreamState(StrEnum):
    """What its source says of a member."""

    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REMOVED = "removed"


class Standing(StrEnum):
    """What a member is, all facts and the time considered."""

    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    GRACE = "grace"
    EXPIRED = "expired"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One person's standing in one company; version 0 is the tombstone of a key that has no member, or none any more.

    Its repr, which may end in a log, leaves out what is personal.
    """

    id: MemberId
    company_id: CompanyId
    connection_id: ConnectionId | None
    external_id: str | None
    national_id: str | None = field(default=None, repr=False)
    name: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    phone: str | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    upstream_state: UpstreamState
    hold: str | None = field(default=None, repr=False)
    held_at: datetime | None = None
    plan: str | None = None
    pending_plan: str | None = None
    pending_start: date | None = None
    # What the pending plan makes of `expires_at`; None where that stays.
    pending_expires_at: datetime | None = None
    starts_at: datetime | None = None
    expires_at: datetime | None = None
    removed_at: datetime | None = None
    state: Standing
    source_version: int | None = None
    source_hash: bytes | None = None
    upstream_applied_at: datetime | None = None
    version: int = 0

    @property
    def live(self) -> bool:
        """Whether the source still has this member."""
        return self.upstream_state is not UpstreamState.REMOVED

    @property
    def tombstone(self) -> bool:
        """Whether nothing but a removal is known of this key."""
        return self.version == 0


_NAMES: Final = tuple(field.name for field in fields(Member))
_PLACES: Final = {name: place for place, name in enumerate(_NAMES)}
_VALUES_OF: Final = attrgetter(*_NAMES)
# Past what keeps others from altering a member: of two dozen fields by name, each looked at, most of a batch's time went here.
_PUTS: Final = tuple(getattr(Member, name).__set__ for name in _NAMES)


def member_of(values: Iterable[Any]) -> Member:
    """The member of all its fields' values, in their order; raises ValueError for more or fewer."""
    member = object.__new__(Member)
    for put, value in zip(_PUTS, values, strict=True):
        put(member, value)
    return member


def altered_member(member: Member, facts: Mapping[str, Any]) -> Member:
    """The member with other facts, by the names of the fields; raises KeyError for one that there is not."""
    values = list(_VALUES_OF(member))
    for name, value in facts.items():
        values[_PLACES[name]] = value
    return member_of(values)


def standing(
    upstream_state: UpstreamState, hold: str | None, expires_at: datetime | None, *, grace: timedelta, now: datetime
) -> Standing:
    """What these facts make of a member at `now`; the SQL function of this name is the same rule."""
    if upstream_state is UpstreamState.REMOVED:
        return Standing.REMOVED
    if upstream_state is UpstreamState.PENDING:
        return Standing.PENDING
    suspended = hold is not None or upstream_state is UpstreamState.SUSPENDED
    # Strictly: a membership that ends now is still one. Subtracting cannot overflow; adding the grace to a date near 9999 would.
    if expires_at is not None and expires_at < now:
        in_grace = not suspended and grace > timedelta(0) and now - expires_at <= grace
        return Standing.GRACE if in_grace else Standing.EXPIRED
    return Standing.SUSPENDED if suspended else Standing.ACTIVE
