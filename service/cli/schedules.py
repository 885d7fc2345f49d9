"""`rollcall schedules`: what runs by itself, when it did and when it will, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli.directory import existing_company, in_transaction
from service.domain.directories.sync_options import SyncMode
from service.domain.schedule_words import last_in_words, next_in_words, rhythm_in_words
from service.store.clock import read_clock
from service.store.companies import list_companies
from service.store.connections import list_connections
from service.store.database import Tx
from service.store.schedules import ScheduleRow, list_schedules

__all__ = ["add_to"]


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
            escape(_runs(row)),
            next_in_words(row.next_run_at, now, enabled=row.enabled),
            last_in_words(row.last_run_at, now),
            f"{row.skipped:,}" if row.skipped else "",
        )
    console = Console(highlight=False)
    # In a pipe a row stays a line.
    console.width = console.width if console.is_terminal else 1000
    console.print(table)


def _runs(row: ScheduleRow) -> str:
    rhythm = rhythm_in_words(row.interval_ms, row.cron, row.time_zone)
    return f"{rhythm}, {row.mode}" if row.mode == SyncMode.INCREMENTAL else rhythm
