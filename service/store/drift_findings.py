"""Drift findings: the keys of a run that were out of sync, or could not be compared, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from uuid import UUID

from service.store.queries import queries
from service.store.rows import column_names, columns

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "DriftFinding",
    "FindingKind",
    "FindingOfRun",
    "insert_drift_findings",
    "list_drift_findings",
    "list_first_drift_findings",
    "page_drift_findings",
]

_SQL: Final = queries("drift_findings")


class FindingKind(StrEnum):
    """Out of sync, or not to be compared."""

    DRIFT = "drift"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class DriftFinding:
    """One key; the reason holds no values."""

    key: str
    what: FindingKind
    reason: str


@dataclass(frozen=True, slots=True)
class FindingOfRun:
    """The same, where there are several runs."""

    run_id: UUID
    key: str
    what: FindingKind
    reason: str


_COLUMNS: Final = column_names(DriftFinding)


async def insert_drift_findings(tx: Tx, run_id: UUID, findings: Sequence[DriftFinding]) -> None:
    """Keep what a run has found."""
    await tx.execute(_SQL["insert_drift_findings"].sql, run_id, *columns(_COLUMNS, findings))


async def list_drift_findings(tx: Tx, run_id: UUID, limit: int = 1000) -> list[DriftFinding]:
    """What a run has found."""
    return [
        DriftFinding(record["key"], FindingKind(record["what"]), record["reason"])
        for record in await tx.fetch(_SQL["list_drift_findings"].sql, run_id, limit)
    ]


async def list_first_drift_findings(tx: Tx, run_ids: Sequence[UUID], limit: int) -> list[FindingOfRun]:
    """The first that each of these runs has found."""
    return [
        FindingOfRun(record["run_id"], record["key"], FindingKind(record["what"]), record["reason"])
        for record in await tx.fetch(_SQL["list_first_drift_findings"].sql, run_ids, limit)
    ]


async def page_drift_findings(tx: Tx, run_id: UUID, *, after: tuple[str, str] | None, limit: int) -> list[DriftFinding]:
    """What a run has found, below that kind and key."""
    what, key = after or (None, None)
    return [
        DriftFinding(record["key"], FindingKind(record["what"]), record["reason"])
        for record in await tx.fetch(_SQL["page_drift_findings"].sql, run_id, what, key, limit)
    ]
