"""`rollcall schedules`: what runs by itself, when it did and when it will, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli.directory import existing_company, in_transaction
from service.store.clock import read_clock
from service.store.companies import list_companies
from service.store.connections import list_connections
from service.store.database import Tx
from service.store.schedules import ScheduleRow, list_schedules

__all__ = ["add_to", "interval_in_words", "time_in_words"]

_UNITS: Final = (
    ("day", timedelta(days=1)),
    ("hour", timedelta(hours=1)),
    ("minute", timedelta(minutes=1)),
    ("second", timedelta(seconds=1)),
)
_MILLISECOND: Final = timedelta(milliseconds=1)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("schedules")(show_schedules)


def show_schedules(
    company: Annotated[str | None, typer.Option(help="Only those of this company, by name or id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
) -> None:
    """List what runs by itself, the next to run first, by the database's clock."""

    async def read(tx: Tx) -> tuple[list[ScheduleRow], Mapping[UUID, str], datetime]:
        names: dict[UUID, str] = {row.id: row.name for row in await list_companies(tx)}
        names |= {row.id: row.name for row in await list_connections(tx)}
        owner = None if company is None else await existing_company(tx, company)
        return await list_schedules(tx, None if owner is None else owner.id, limit=limit), names, await read_clock(tx)

    found, names, now = in_transaction(read)
    table = Table(box=None)
    for name in ("kind", "company", "of", "runs", "next", "last", "skipped"):
        table.add_column(name, no_wrap=True)
    for row in found:
        table.add_row(
            row.kind,
            escape(names.get(row.company_id, "") if row.company_id else "all"),
            escape("" if row.subject_id is None else names.get(row.subject_id, str(row.subject_id))),
            escape(_rhythm(row)),
            _next(row, now),
            "never" if row.last_run_at is None else time_in_words(row.last_run_at - now),
            f"{row.skipped:,}" if row.skipped else "",
        )
    console = Console(highlight=False)
    # In a pipe a row stays a line.
    console.width = console.width if console.is_terminal else 1000
    console.print(table)


def interval_in_words(interval: timedelta) -> str:
    """In the largest unit that it is a whole number of: `every 5 minutes`."""
    for unit, length in _UNITS:
        if interval and interval % length == timedelta(0):
            count = interval // length
            return f"every {unit}" if count == 1 else f"every {count} {unit}s"
    return f"every {interval / timedelta(seconds=1):g} seconds"


def time_in_words(away: timedelta) -> str:
    """How far off, in the largest unit that fits: `in 3 minutes`, `2 hours ago`, `now`."""
    for unit, length in _UNITS:
        if count := abs(away) // length:
            far = f"{count} {unit}{'' if count == 1 else 's'}"
            return f"in {far}" if away > timedelta(0) else f"{far} ago"
    return "now"


def _rhythm(row: ScheduleRow) -> str:
    if row.interval_ms is None:
        return f"at {row.cron} in {row.time_zone}"
    return interval_in_words(row.interval_ms * _MILLISECOND)


def _next(row: ScheduleRow, now: datetime) -> str:
    """What is late waits for something: a job that runs, a connection that is blocked, somebody who looks at a quarantine."""
    if not row.enabled:
        return "off"
    away = row.next_run_at - now
    return time_in_words(away) if away > timedelta(0) else f"due, {time_in_words(away)}"
