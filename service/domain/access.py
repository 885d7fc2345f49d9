"""Whether a member may come in, which its standing and its start decide."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.domain.member import Standing

__all__ = ["Access", "Denial", "access"]


class Denial(StrEnum):
    """Why a member may not come in."""

    PENDING = "pending"
    NOT_STARTED = "notStarted"
    SUSPENDED = "suspended"
    EXPIRED = "expired"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Access:
    """The answer at one moment; `denial` is None exactly where `granted`."""

    denial: Denial | None

    @property
    def granted(self) -> bool:
        """Whether the member may come in."""
        return self.denial is None


_DENIALS = {
    Standing.PENDING: Denial.PENDING,
    Standing.SUSPENDED: Denial.SUSPENDED,
    Standing.EXPIRED: Denial.EXPIRED,
    Standing.REMOVED: Denial.REMOVED,
}


def access(standing: Standing, starts_at: datetime | None, now: datetime) -> Access:
    """Who is active or in grace may come in, from the start on (semantics: Read time is authoritative)."""
    denial = _DENIALS.get(standing)
    if denial is None and starts_at is not None and starts_at > now:
        denial = Denial.NOT_STARTED
    return Access(denial)
