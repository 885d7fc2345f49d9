"""What a change can come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from service.domain.transition import Transition, Unchanged

__all__ = ["Conflict", "Decision", "Refused", "Stale"]


@dataclass(frozen=True, slots=True)
class Stale:
    """Somebody was faster: the member is already further than this change."""

    reason: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two truths of one version, or of one person; a human has to choose."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Not something that can be done to this member."""

    reason: str


Decision: TypeAlias = Transition | Unchanged | Stale | Conflict | Refused
