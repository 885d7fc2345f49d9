"""Schedules: what a company lets run by itself, and when it runs next."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from pydantic import Field

from service.domain.schedule_words import last_in_words, next_in_words, rhythm_in_words
from service.entrypoints.http.admin.api_model import AnswerModel, Listed
from service.entrypoints.http.admin.example_ids import REGISTER, SCHEDULE
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Watcher
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import Db
from service.store.clock import read_clock
from service.store.schedules import ScheduleRow, list_schedules

__all__ = ["router"]

router: Final = admin_router("schedules")

_PAGES: Final = Cursor("schedules", (datetime, UUID))
_MINUTE: Final = 60_000


class Schedule(AnswerModel):
    """What is done again and again: after an interval, or by a cron expression on the clocks of a zone."""

    id: UUID
    kind: str = Field(examples=["directory_sync"])
    subject_id: UUID | None = Field(description="What it is about, such as a directory.")
    interval_minutes: float | None
    cron: str | None
    time_zone: str | None
    next_run_at: datetime = Field(description="Its next slot; in the past while something keeps it from beginning.")
    last_run_at: datetime | None
    skipped: int = Field(description="Slots that passed without a run of their own, as in an outage.")
    enabled: bool
    in_words: str = Field(
        description="The same for people, by the database's clock.",
        examples=["every hour; next: in 30 minutes; last: 2 hours ago"],
    )

    example: ClassVar[dict[str, Any]] = {
        "id": SCHEDULE,
        "kind": "directory_sync",
        "subjectId": REGISTER,
        "intervalMinutes": 60.0,
        "cron": None,
        "timeZone": None,
        "nextRunAt": "2026-12-01T12:30:00.125000Z",
        "lastRunAt": "2026-12-01T11:30:00.125000Z",
        "skipped": 0,
        "enabled": True,
        "inWords": "every hour; next: in 30 minutes; last: 30 minutes ago",
    }


@router.get("/api/schedules", summary="List schedules")
async def list_all(principal: Watcher, db: Db, page: Page) -> Listed[Schedule]:
    """The company's schedules, the next to run first."""
    after = _PAGES.read(page)
    async with db.transaction() as tx:
        rows = await list_schedules(
            tx, principal.company_id, after=None if after is None else (after[0], after[1]), limit=page.wanted
        )
        now = await read_clock(tx)
    return _PAGES.page(page, rows, lambda row: _shown(row, now), lambda row: (row.next_run_at, row.id))


def _shown(row: ScheduleRow, now: datetime) -> Schedule:
    rhythm = rhythm_in_words(row.interval_ms, row.cron, row.time_zone)
    next_run, last_run = next_in_words(row.next_run_at, now, enabled=row.enabled), last_in_words(row.last_run_at, now)
    return Schedule(
        id=row.id,
        kind=row.kind,
        subject_id=row.subject_id,
        interval_minutes=None if row.interval_ms is None else row.interval_ms / _MINUTE,
        cron=row.cron,
        time_zone=row.time_zone,
        next_run_at=row.next_run_at,
        last_run_at=row.last_run_at,
        skipped=row.skipped,
        enabled=row.enabled,
        in_words=f"{rhythm}; next: {next_run}; last: {last_run}",
    )
