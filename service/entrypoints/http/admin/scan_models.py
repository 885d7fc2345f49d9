"""Scans and findings as they are answered."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import Field

from service.domain.scans import FindingState, PartState, Resolution, Severity
from service.entrypoints.http.admin.api_model import AnswerModel
from service.entrypoints.http.admin.example_ids import CORRELATION, FINDING, HER, JOB, SCAN
from service.store.findings import FindingRow
from service.store.scan_parts import ScanPartRow
from service.store.scans import ScanRow, ScanStatus

__all__ = ["Finding", "Scan", "ScanPart", "shown_finding", "shown_scan"]


class ScanPart(AnswerModel):
    """What one provider came to: how many findings it found, of these the new ones, and how many it finds no more."""

    provider: str
    state: PartState = Field(description="`waiting`: for another attempt of the job, which asks it again.")
    started_at: datetime
    finished_at: datetime | None
    found: int
    opened: int
    resolved: int
    error: str | None

    example: ClassVar[dict[str, Any]] = {
        "provider": "duplicates",
        "state": "succeeded",
        "startedAt": "2026-12-01T02:00:00.010000Z",
        "finishedAt": "2026-12-01T02:00:00.300000Z",
        "found": 2,
        "opened": 1,
        "resolved": 0,
        "error": None,
    }


class Scan(AnswerModel):
    """One look at the company's members by its providers."""

    id: UUID
    job_id: UUID
    status: ScanStatus = Field(description="`partial`: some providers failed; `failed`: all did.")
    started_at: datetime
    finished_at: datetime | None
    members: int = Field(description="Those who had not left as it began.")
    parts: list[ScanPart]
    correlation_id: str

    example: ClassVar[dict[str, Any]] = {
        "id": SCAN,
        "jobId": JOB,
        "status": "succeeded",
        "startedAt": "2026-12-01T02:00:00Z",
        "finishedAt": "2026-12-01T02:00:00.310000Z",
        "members": 1198,
        "parts": [ScanPart.example],
        "correlationId": CORRELATION,
    }


class Finding(AnswerModel):
    """What a provider says of a member, from the first time it did until it is so no more."""

    id: UUID
    member_id: UUID
    provider: str = Field(examples=["duplicates"])
    kind: str = Field(examples=["duplicate_email"])
    key: str = Field(description="Tells several of a kind at one member apart, such as the name of a breach; else empty.")
    severity: Severity
    detail: dict[str, Any] = Field(description="The provider's own.", examples=[{"members": 2}])
    state: FindingState
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    resolution: Resolution | None

    example: ClassVar[dict[str, Any]] = {
        "id": FINDING,
        "memberId": HER,
        "provider": "duplicates",
        "kind": "duplicate_email",
        "key": "",
        "severity": "medium",
        "detail": {"members": 2},
        "state": "open",
        "firstSeenAt": "2026-11-30T02:00:00.300000Z",
        "lastSeenAt": "2026-12-01T02:00:00.300000Z",
        "resolvedAt": None,
        "resolution": None,
    }


def shown_scan(row: ScanRow, parts: Iterable[ScanPartRow]) -> Scan:
    """As it is answered, with its own of these parts."""
    return Scan(
        id=row.id,
        job_id=row.job_id,
        status=ScanStatus(row.status),
        started_at=row.started_at,
        finished_at=row.finished_at,
        members=row.members,
        parts=[_shown_part(part) for part in parts if part.scan_id == row.id],
        correlation_id=row.correlation_id,
    )


def _shown_part(row: ScanPartRow) -> ScanPart:
    return ScanPart(
        provider=row.provider,
        state=PartState(row.state),
        started_at=row.started_at,
        finished_at=row.finished_at,
        found=row.found,
        opened=row.opened,
        resolved=row.resolved,
        error=row.error,
    )


def shown_finding(row: FindingRow) -> Finding:
    """As it is answered."""
    return Finding(
        id=row.id,
        member_id=row.member_id,
        provider=row.provider,
        kind=row.kind,
        key=row.key,
        severity=Severity(row.severity),
        detail=dict(row.detail),
        state=FindingState(row.state),
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
        resolved_at=row.resolved_at,
        resolution=None if row.resolution is None else Resolution(row.resolution),
    )
