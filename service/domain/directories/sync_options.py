"""What is asked of a sync, as its job carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

__all__ = ["SyncMode", "SyncOptions", "SyncType"]


class SyncMode(StrEnum):
    """All members, or those that changed since the last time."""

    FULL = "full"
    INCREMENTAL = "incremental"


class SyncType(StrEnum):
    """What set a sync off: its schedule, a webhook, or somebody."""

    MEMBERSHIP = "membership"
    # Reserved, and written by nothing: what a webhook says is applied by itself, no sync is needed for it.
    WEBHOOK = "webhook"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOptions:
    """The parameters of a `directory_sync` job."""

    type: SyncType = SyncType.MANUAL
    mode: SyncMode = SyncMode.FULL
    dry_run: bool = False
    # An initial population: whoever is new makes no event of their own.
    baseline: bool = False
    # The quarantined run whose list of removals somebody approved.
    approved: UUID | None = None

    def to_parameters(self) -> dict[str, Any]:
        """As JSON."""
        found: dict[str, Any] = {"type": self.type.value, "mode": self.mode.value}
        found |= {"dryRun": True} if self.dry_run else {}
        found |= {"baseline": True} if self.baseline else {}
        return found | ({} if self.approved is None else {"approved": str(self.approved)})

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Back again; raises ValueError for what no version of this wrote."""
        approved = parameters.get("approved")
        return cls(
            type=SyncType(parameters.get("type", SyncType.MANUAL)),
            mode=SyncMode(parameters.get("mode", SyncMode.FULL)),
            dry_run=parameters.get("dryRun", False) is True,
            baseline=parameters.get("baseline", False) is True,
            approved=None if approved is None else UUID(approved),
        )
