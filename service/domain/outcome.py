"""What became of a change."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from service.domain.member import MemberId

__all__ = ["Outcome", "Result"]


class Outcome(StrEnum):
    """The ends a change can come to; none of them is an error."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    DUPLICATE = "duplicate"
    STALE = "stale"
    CONFLICT = "conflict"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one change; `reason` holds no personal data, `version` is the one that an applied change made."""

    outcome: Outcome
    reason: str | None = None
    member_id: MemberId | None = None
    version: int | None = None

    @property
    def settled(self) -> bool:
        """Whether the message is done with; one that is not can take effect when it is sent again after its cause was mended."""
        return self.outcome not in (Outcome.CONFLICT, Outcome.REFUSED)
