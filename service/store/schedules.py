"""Schedules: what is done again and again, and when it is due next."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from service.domain.member import CompanyId
from service.domain.schedule import Cron, Rhythm, cron, every
from service.store.queries import queries
from service.store.rows import column_names, columns

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "Advanced",
    "DueSchedule",
    "ScheduleRow",
    "advance_schedules",
    "claim_due_schedules",
    "disable_schedules",
    "find_schedule",
    "list_schedules",
    "offer_cron_schedule",
    "offer_schedule",
    "set_interval",
    "set_mode",
    "stop_schedule",
]

_SQL: Final = queries("schedules")
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueSchedule:
    """A schedule whose slot `next_run_at` is due, in the hands of this transaction."""

    id: UUID
    company_id: CompanyId | None
    kind: str
    subject_id: UUID | None
    parameters: Mapping[str, Any]
    interval_ms: int | None
    cron: str | None
    time_zone: str | None
    next_run_at: datetime
    claimed_at: datetime

    @property
    def rhythm(self) -> Rhythm:
        """When it is due; raises InvalidSchedule."""
        return _rhythm(self.interval_ms, self.cron, self.time_zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """A schedule as people see it; `subject_id` None is the whole installation, `skipped` the slots without a run of their own."""

    id: UUID
    company_id: CompanyId | None
    kind: str
    subject_id: UUID | None
    interval_ms: int | None
    cron: str | None
    time_zone: str | None
    next_run_at: datetime
    last_run_at: datetime | None
    skipped: int
    enabled: bool
    # Of what a sync is asked for: `full` or `incremental`.
    mode: str | None

    @property
    def rhythm(self) -> Rhythm:
        """When it is due; raises InvalidSchedule."""
        return _rhythm(self.interval_ms, self.cron, self.time_zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """Where a schedule goes on, and how many slots it leaves out."""

    id: UUID
    next_run_at: datetime
    skipped: int


_ADVANCED: Final = column_names(Advanced)


async def claim_due_schedules(tx: Tx, kinds: Collection[str], most: int) -> list[DueSchedule]:
    """Up to `most` that are due, the longest first; those that another transaction looks at are left to it."""
    return [DueSchedule(**record) for record in await tx.fetch(_SQL["claim_due_schedules"].sql, list(kinds), most)]


async def advance_schedules(tx: Tx, advanced: Sequence[Advanced]) -> None:
    """Let claimed schedules go on at their next slots."""
    await tx.execute(_SQL["advance_schedules"].sql, *columns(_ADVANCED, advanced))


async def disable_schedules(tx: Tx, ids: Collection[UUID]) -> None:
    """Let them run no more."""
    await tx.execute(_SQL["disable_schedules"].sql, list(ids))


async def offer_schedule(
    tx: Tx,
    kind: str,
    interval: timedelta,
    company_id: CompanyId | None,
    subject_id: UUID | None,
    parameters: Mapping[str, Any] | None = None,
) -> bool:
    """Add a schedule that is due at once, with its jobs' parameters; False where the subject has one of the kind already."""
    given = (company_id, kind, subject_id, interval // _MILLISECOND, parameters or {})
    return await tx.fetchval(_SQL["offer_schedule"].sql, *given) is not None


async def offer_cron_schedule(
    tx: Tx, kind: str, rhythm: Cron, next_run_at: datetime, company_id: CompanyId | None, subject_id: UUID | None
) -> bool:
    """Add a schedule by a cron expression, due first at `next_run_at`; False where the subject has one of the kind already."""
    added = await tx.fetchval(
        _SQL["offer_cron_schedule"].sql, company_id, kind, subject_id, rhythm.expression, rhythm.zone.key, next_run_at
    )
    return added is not None


async def set_interval(
    tx: Tx,
    kind: str,
    interval: timedelta,
    company_id: CompanyId | None,
    subject_id: UUID | None,
    parameters: Mapping[str, Any] | None = None,
) -> bool:
    """Let something run after each interval, with these parameters where it is new; False where it does already."""
    given = (company_id, kind, subject_id, interval // _MILLISECOND, parameters or {})
    return await tx.fetchval(_SQL["set_interval"].sql, *given) is not None


async def set_mode(tx: Tx, kind: str, subject_id: UUID, mode: str) -> bool:
    """Let the jobs of a subject's schedule be asked for in this mode; False where it has none."""
    return await tx.fetchval(_SQL["set_mode"].sql, kind, subject_id, mode) is not None


async def stop_schedule(tx: Tx, kind: str, subject_id: UUID) -> None:
    """Let something of a subject run no more by itself."""
    await tx.execute(_SQL["stop_schedule"].sql, kind, subject_id)


async def find_schedule(tx: Tx, kind: str, subject_id: UUID) -> ScheduleRow | None:
    """The schedule of a subject."""
    record = await tx.fetchrow(_SQL["find_schedule"].sql, kind, subject_id)
    return None if record is None else ScheduleRow(**record)


async def list_schedules(
    tx: Tx, company_id: CompanyId | None = None, *, after: tuple[datetime, UUID] | None = None, limit: int = 50
) -> list[ScheduleRow]:
    """Schedules of all, or of one company, the next to run first; `after` is the slot and the id of the last one before."""
    records = await tx.fetch(_SQL["list_schedules"].sql, company_id, *(after or (None, None)), limit)
    return [ScheduleRow(**record) for record in records]


def _rhythm(interval_ms: int | None, expression: str | None, time_zone: str | None) -> Rhythm:
    if expression is not None and time_zone is not None:
        return cron(expression, time_zone)
    return every((interval_ms or 0) * _MILLISECOND)
