"""Syncs as they are asked for and answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from service.domain.directories.sync_options import SyncMode, SyncOptions, SyncType
from service.entrypoints.http.admin.api_model import AnswerModel, RequestModel
from service.entrypoints.http.admin.example_ids import CORRELATION, HER, JOB, REGISTER, SYNC_RUN
from service.entrypoints.http.admin.job_models import Job
from service.store.sync_entries import SyncEntry
from service.store.sync_log import SyncLogRow, SyncStatus

__all__ = ["Entry", "Status", "SyncBody", "SyncRun", "shown_entry", "shown_run"]


class SyncBody(RequestModel):
    """What is asked for; all of it may be left out."""

    connection_id: UUID | None = Field(default=None, description="Needed where the company has several directories.")
    mode: SyncMode = Field(default=SyncMode.FULL, description="`incremental` asks only for what changed, where the source can.")
    baseline: bool = Field(default=False, strict=True, description="An initial population: who is new makes no event of their own.")
    dry_run: bool = Field(default=False, strict=True, description="Change nothing: show what would change.")
    # What a cloud scheduler posts.
    sync_type: Literal["scheduled"] | None = Field(default=None, alias="sync_type", description="As a cloud scheduler says it.")

    example: ClassVar[dict[str, Any]] = {"connectionId": REGISTER, "mode": "full"}

    def options(self, *, dry_run: bool) -> SyncOptions:
        """As its job carries it."""
        kind = SyncType.MEMBERSHIP if self.sync_type is not None else SyncType.MANUAL
        return SyncOptions(type=kind, mode=self.mode, dry_run=dry_run or self.dry_run, baseline=self.baseline)


class SyncRun(AnswerModel):
    """One run of a sync: what it found and what came of it."""

    id: UUID
    job_id: UUID
    connection_id: UUID
    type: SyncType = Field(
        description="What set it off: `membership` a schedule, `manual` somebody. `webhook` is reserved: what a webhook says is "
        "applied without a sync."
    )
    mode: SyncMode
    dry_run: bool
    baseline: bool
    status: SyncStatus
    started_at: datetime
    finished_at: datetime | None
    duration_seconds: float | None
    fetched: int
    added: int
    updated: int
    reactivated: int
    removed: int
    verified: int
    left_alone: int
    error_count: int
    error: str | None
    details: dict[str, Any]
    approves: UUID | None
    review: str | None
    reviewed_at: datetime | None
    reviewed_by: str | None
    correlation_id: str

    example: ClassVar[dict[str, Any]] = {
        "id": SYNC_RUN,
        "jobId": JOB,
        "connectionId": REGISTER,
        "type": "manual",
        "mode": "full",
        "dryRun": False,
        "baseline": False,
        "status": "success",
        "startedAt": "2026-12-01T11:30:00.050000Z",
        "finishedAt": "2026-12-01T11:30:01.280000Z",
        "durationSeconds": 1.23,
        "fetched": 1204,
        "added": 1,
        "updated": 2,
        "reactivated": 0,
        "removed": 0,
        "verified": 1201,
        "leftAlone": 0,
        "errorCount": 0,
        "error": None,
        "details": {"pages": 3},
        "approves": None,
        "review": None,
        "reviewedAt": None,
        "reviewedBy": None,
        "correlationId": CORRELATION,
    }


class DirectoryStatus(AnswerModel):
    """Where the syncs of one directory stand."""

    connection_id: UUID
    name: str
    status: str
    last_run: SyncRun | None
    job: Job | None = Field(description="What is queued or runs.")
    waiting: list[UUID] = Field(description="Quarantined jobs that somebody has to approve or reject.")
    last_full_sync_at: datetime | None
    last_incremental_sync_at: datetime | None

    example: ClassVar[dict[str, Any]] = {
        "connectionId": REGISTER,
        "name": "register",
        "status": "active",
        "lastRun": SyncRun.example,
        "job": None,
        "waiting": [],
        "lastFullSyncAt": "2026-12-01T11:30:00Z",
        "lastIncrementalSyncAt": None,
    }


class Status(AnswerModel):
    """Where the syncs of a company stand, by directory."""

    enabled: bool = Field(description="False: SYNC_ENABLED switched them off; dry runs are not.")
    directories: list[DirectoryStatus] = Field(description="Those that are asked for members; one page of them.")
    next_cursor: str | None = Field(default=None, description="Asks for the next page; null where there is none.")

    example: ClassVar[dict[str, Any]] = {"enabled": True, "directories": [DirectoryStatus.example], "nextCursor": None}


class Change(AnswerModel):
    """A field before and after."""

    before: Any = None
    after: Any = None


class Entry(AnswerModel):
    """What a run says of one record; of a dry run with the fields that would change, which is personal data."""

    what: str
    external_id: str | None
    member_id: UUID | None
    reason: str | None
    changes: dict[str, Change] | None

    example: ClassVar[dict[str, Any]] = {
        "what": "updated",
        "externalId": "ada",
        "memberId": HER,
        "reason": None,
        "changes": {"name": {"before": "Ada Lovelace", "after": "Ada King"}},
    }


def shown_run(row: SyncLogRow) -> SyncRun:
    """As it is answered."""
    duration = row.duration
    return SyncRun(
        id=row.id,
        job_id=row.job_id,
        connection_id=row.connection_id,
        type=SyncType(row.type),
        mode=SyncMode(row.mode),
        dry_run=row.dry_run,
        baseline=row.baseline,
        status=SyncStatus(row.status),
        started_at=row.started_at,
        finished_at=row.finished_at,
        duration_seconds=None if duration is None else duration.total_seconds(),
        fetched=row.fetched,
        added=row.added,
        updated=row.updated,
        reactivated=row.reactivated,
        removed=row.removed,
        verified=row.verified,
        left_alone=row.left_alone,
        error_count=row.error_count,
        error=row.error,
        details=dict(row.details),
        approves=row.approves,
        review=row.review,
        reviewed_at=row.reviewed_at,
        reviewed_by=row.reviewed_by,
        correlation_id=row.correlation_id,
    )


def shown_entry(row: SyncEntry) -> Entry:
    """As it is answered."""
    changes = row.changes
    return Entry(
        what=row.what,
        external_id=row.external_id,
        member_id=row.member_id,
        reason=row.reason,
        changes=None if changes is None else {name: Change(**change) for name, change in changes.items()},
    )
