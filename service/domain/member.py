"""A member's facts, and the one function that says what they make of them at a given time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

__all__ = ["CompanyId", "ConnectionId", "Member", "MemberId", "Standing", "UpstreamState", "standing"]

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
