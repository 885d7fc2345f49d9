"""`rollcall jobs`: what runs, what waits, how it ended, and how to stop it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, assert_never
from uuid import UUID

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.actions.cancel_job import cancel_job
from service.cli.directory import existing_company, in_transaction
from service.domain.errors import RollcallError
from service.domain.jobs import MOST_ATTEMPTS, CancelAsked, Ended, JobId, JobState, Transition
from service.store.companies import list_companies
from service.store.database import Tx
from service.store.jobs import JobRow, find_job, list_jobs, list_jobs_of_company

__all__ = ["add_to"]

jobs = typer.Typer(no_args_is_help=True, help="Work that takes longer: what runs, what waits, how it ended.")

JobArgument = Annotated[UUID, typer.Argument(metavar="ID", help="The job's id.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(jobs, name="jobs")


@jobs.command("list")
def show_jobs(
    company: Annotated[str | None, typer.Option(help="Only those of this company, by name or id.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only those of this kind, such as directory_sync.")] = None,
    state: Annotated[JobState | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
) -> None:
    """List jobs, the newest first."""

    async def read(tx: Tx) -> tuple[list[JobRow], Mapping[UUID, str]]:
        names: Mapping[UUID, str] = {row.id: row.name for row in await list_companies(tx)}
        if company is None:
            return await list_jobs(tx, kind=kind, state=state, limit=limit), names
        owner = await existing_company(tx, company)
        return await list_jobs_of_company(tx, owner.id, kind=kind, state=state, limit=limit), names

    found, names = in_transaction(read)
    table = Table(box=None)
    for name in ("id", "kind", "company", "state", "attempt", "asked for", "took", "why"):
        # An id that is cut off is of no use to anybody.
        table.add_column(name, no_wrap=name != "why")
    for row in found:
        table.add_row(
            str(row.id),
            row.kind,
            escape(names.get(row.company_id, "") if row.company_id else "all"),
            row.state,
            f"{row.attempts}/{MOST_ATTEMPTS}",
            f"{row.created_at:%Y-%m-%d %H:%M:%S}",
            _took(row),
            escape(row.error or ""),
        )
    _print(table)


@jobs.command("show")
def show_job(job_id: JobArgument) -> None:
    """Show one job: what was asked for, how far it is, and what came of it."""
    row = in_transaction(lambda tx: find_job(tx, JobId(job_id)))
    if row is None:
        raise RollcallError(_not_there(job_id))
    facts = {
        "id": row.id,
        "kind": row.kind,
        "state": row.state,
        "company": row.company_id or "all",
        "subject": row.subject_id,
        "parameters": _json(row.parameters),
        "requested by": row.requested_by,
        "slot": row.slot,
        "attempt": f"{row.attempts} of {MOST_ATTEMPTS}",
        "why": row.error,
        "next attempt at": row.next_attempt_at,
        "cancel requested": row.cancel_requested_at,
        "created at": row.created_at,
        "started at": row.started_at,
        "heartbeat at": row.heartbeat_at if row.state is JobState.RUNNING else None,
        "finished at": row.finished_at,
        "took": _took(row) or None,
        "progress": _json(row.progress),
        "result": _json(row.result),
        "correlation id": row.correlation_id,
        "trace": row.traceparent,
    }
    for name, value in facts.items():
        if value is not None:
            typer.echo(f"{name:16} {_shown(value)}")


@jobs.command("cancel")
def cancel(job_id: JobArgument) -> None:
    """Cancel a job: at once while it is queued, at its next step while it runs."""
    cancellation = in_transaction(lambda tx: cancel_job(tx, JobId(job_id), None, "cli"))
    match cancellation:
        case None:
            raise RollcallError(_not_there(job_id))
        case Transition():
            typer.echo("cancelled")
        case CancelAsked():
            typer.echo("asked to stop; `rollcall jobs show` says when it has")
        case Ended(state=state):
            message = f"the job has ended already: {state}"
            raise RollcallError(message)
        case _:
            assert_never(cancellation)


def _not_there(job_id: UUID) -> str:
    return f"there is no job {job_id}; `rollcall jobs list` shows them"


def _took(row: JobRow) -> str:
    """From the first attempt's start to the end, or till now while it runs."""
    if row.started_at is None or row.state is JobState.QUEUED:
        return ""
    end = row.finished_at or datetime.now(UTC)
    return str(timedelta(seconds=max(0, round((end - row.started_at).total_seconds()))))


def _json(value: Mapping[str, Any] | None) -> str | None:
    return orjson.dumps(value).decode() if value else None


def _shown(value: object) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value)


def _print(table: Table) -> None:
    console = Console(highlight=False)
    # In a pipe a row stays a line.
    console.width = console.width if console.is_terminal else 1000
    console.print(table)
