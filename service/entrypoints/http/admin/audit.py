"""The audit of what was administered; a member's own history is with the member."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from fastapi import Query

from service.entrypoints.http.admin.api_model import AnswerModel, Listed
from service.entrypoints.http.admin.example_ids import CORRELATION, KEY, REGISTER
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Reader
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import Db
from service.store.admin_events import AdminEvent, list_admin_events

__all__ = ["router"]

router: Final = admin_router("audit")

_PAGES: Final = Cursor("audit", (int,))


class Event(AnswerModel):
    """Something that was done; of what may hold a secret only that it changed is told."""

    occurred_at: datetime
    actor: str
    action: str
    subject_kind: str
    subject_id: UUID
    changes: dict[str, Any]
    correlation_id: str

    example: ClassVar[dict[str, Any]] = {
        "occurredAt": "2026-11-25T10:00:00Z",
        "actor": f"key:{KEY}",
        "action": "directory.scheduled",
        "subjectKind": "directory",
        "subjectId": REGISTER,
        "changes": {"autoSyncIntervalMinutes": {"before": None, "after": 60}},
        "correlationId": CORRELATION,
    }


@router.get("/api/audit", summary="What was administered")
async def list_all(
    principal: Reader,
    db: Db,
    page: Page,
    subject_id: Annotated[UUID | None, Query(alias="subjectId", description="Only what was done to this.")] = None,
) -> Listed[Event]:
    """Who did what to companies, directories, keys and jobs, the newest first. `actor` is `key:<id>`, `operator` or `cli`."""
    after = _PAGES.read(page)
    async with db.transaction() as tx:
        rows = await list_admin_events(
            tx, principal.company_id, subject_id=subject_id, after=None if after is None else after[0], limit=page.wanted
        )
    return _PAGES.page(page, rows, _shown, lambda row: (row.id,))


def _shown(row: AdminEvent) -> Event:
    return Event(
        occurred_at=row.occurred_at,
        actor=row.actor,
        action=row.action,
        subject_kind=row.subject_kind,
        subject_id=row.subject_id,
        changes=dict(row.changes),
        correlation_id=row.correlation_id,
    )
