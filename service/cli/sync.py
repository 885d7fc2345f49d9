"""`rollcall sync`: bring members in step with their directory, or see what that would do."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, assert_never
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.request_sync import SyncRefused, request_sync
from service.actions.review_job import NotQuarantined, Rejected
from service.actions.review_quarantine import approve_quarantined, reject_quarantined
from service.cli.directory import existing_connection, in_transaction
from service.cli.sync_following import Followed, follow_sync
from service.cli.sync_output import print_entries, print_outcome
from service.domain.directories.configuration import NOT_ASKED
from service.domain.directories.sync_options import SyncMode, SyncOptions
from service.domain.errors import RollcallError
from service.domain.jobs import JobId, JobState
from service.domain.member import ConnectionId
from service.settings import Settings, load_settings
from service.store.connections import list_connections
from service.store.database import Database, Tx
from service.store.migrate import pending_migrations
from service.store.sync_log import list_syncs
from service.telemetry.logs import configure_logs
from service.wiring.directories import default_directory

__all__ = ["add_to"]

sync = typer.Typer(invoke_without_command=True, help="Bring members in step with their directory.")

_WHO: Final = "cli"
# As diff says it.
_DIFFERS: Final = 2

Job = Annotated[UUID, typer.Argument(help="The job, as `rollcall sync`, `rollcall sync log` and `rollcall jobs list` name it.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(sync, name="sync")


@sync.callback()
def run(
    context: typer.Context,
    connection: Annotated[str | None, typer.Option(help="By id or name; needed where there is more than one directory.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing: show what would change.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Ask for all members, which is the default.")] = False,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Ask only for what changed, where the directory can say so.")
    ] = False,
    baseline: Annotated[bool, typer.Option("--baseline", help="An initial population: who is new makes no event.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds after which a sync that no worker takes is run right here.")] = 3,
) -> None:
    """Sync a directory, and follow it to its end.

    A worker runs it; where none takes it, this command does. Exit status 0: done, or nothing would change; 1: it failed, or waits
    for approval; 2: a dry run found changes.
    """
    if context.invoked_subcommand is not None:
        return
    if full and incremental:
        raise typer.BadParameter("all members, or those that changed: not both", param_hint="--incremental")
    options = SyncOptions(mode=SyncMode.INCREMENTAL if incremental else SyncMode.FULL, dry_run=dry_run, baseline=baseline)
    raise typer.Exit(asyncio.run(_sync(load_settings(), connection, options, wait)))


@sync.command()
def approve(job: Job) -> None:
    """Approve the removals of a quarantined job: it runs again, and may remove those and nobody else.

    Of a sync those that its list names; of the removal of a directory's members as many as it has counted.
    """

    async def work(tx: Tx) -> Enqueued | AlreadyRunning | NotQuarantined | SyncRefused | None:
        return await approve_quarantined(tx, JobId(job), None, _WHO, enabled=load_settings().sync_enabled)

    answer = in_transaction(work)
    match answer:
        case Enqueued():
            pass
        case AlreadyRunning(job_id=other):
            message = f"job {other} works on the connection; approve when it has ended, if the quarantine still stands"
            raise RollcallError(message)
        case NotQuarantined(state=state):
            message = f"job {job} is {state.value}: there is nothing to approve"
            raise RollcallError(message)
        case SyncRefused(reason=reason):
            raise RollcallError(reason)
        case None:
            raise _no_job(job)
        case _:
            assert_never(answer)
    raise typer.Exit(asyncio.run(_follow(load_settings(), JobId(job), wait=3)))


@sync.command()
def reject(job: Job) -> None:
    """Reject the removals of a quarantined job: nothing comes of it."""

    async def work(tx: Tx) -> Rejected | NotQuarantined | None:
        return await reject_quarantined(tx, JobId(job), None, _WHO)

    answer = in_transaction(work)
    match answer:
        case Rejected():
            typer.echo(f"job {job} is rejected; nobody was removed")
        case NotQuarantined(state=state):
            message = f"job {job} is {state.value}: there is nothing to reject"
            raise RollcallError(message)
        case None:
            raise _no_job(job)
        case _:
            assert_never(answer)


@sync.command()
def log(
    connection: Annotated[str | None, typer.Option(help="Only this one's, by id or name.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many, the newest first.")] = 20,
) -> None:
    """List what became of the last syncs."""

    async def read(tx: Tx) -> Table:
        only = None if connection is None else ConnectionId((await existing_connection(tx, connection)).id)
        names = {row.id: row.name for row in await list_connections(tx)}
        table = Table(box=None, pad_edge=False)
        for column in ("started", "connection", "mode", "status", "+", "~", "↺", "-", "=", "errors", "seconds", "job", "why"):
            table.add_column(column, no_wrap=True)
        for row in await list_syncs(tx, connection_id=only, limit=limit):
            numbers = (row.added, row.updated, row.reactivated, row.removed, row.verified, row.error_count)
            mode = row.mode + (" dry" if row.dry_run else "")
            status = row.status if row.review is None else f"{row.status}, {row.review}"
            seconds = "" if row.duration is None else f"{row.duration.total_seconds():.1f}"
            why = row.error or row.details.get("held") or row.details.get("withheld") or ""
            name = escape(names.get(ConnectionId(row.connection_id), ""))
            numbers_shown = (f"{number:,}" for number in numbers)
            started = f"{row.started_at:%Y-%m-%d %H:%M:%S}"
            table.add_row(started, name, mode, status, *numbers_shown, seconds, str(row.job_id), escape(why))
        return table

    table = in_transaction(read)
    Console(width=1000, highlight=False).print(table)


def _no_job(job: UUID) -> RollcallError:
    message = f"there is no job {job}; `rollcall jobs list --state quarantined` shows those that wait"
    return RollcallError(message)


async def _sync(settings: Settings, connection: str | None, options: SyncOptions, wait: float) -> int:
    db = await _open(settings)
    try:
        await default_directory(settings, db)
        async with db.transaction() as tx:
            chosen = await _chosen(tx, connection)
            answer = await request_sync(tx, chosen, options, requested_by=_WHO, enabled=settings.sync_enabled)
        match answer:
            case Enqueued(job_id=job_id):
                return await _followed(settings, db, job_id, wait)
            case AlreadyRunning(job_id=other):
                message = f"the connection is being synced already, by job {other}"
                raise RollcallError(message)
            case SyncRefused(reason=reason):
                raise RollcallError(reason)
            case None:
                message = f"connection {connection} has no directory: its source publishes by itself"
                raise RollcallError(message)
            case _:
                assert_never(answer)
    finally:
        await db.close()


async def _open(settings: Settings) -> Database:
    """At once or not at all: whoever types a command does not want to wait for a database."""
    # What is run here tells of its problems in its outcome.
    configure_logs("console", "error")
    url = settings.database_url.get_secret_value()
    db = await Database.connect(url, name="rollcall cli", size=4, behind_pooler=settings.behind_pooler)
    async with db.transaction() as tx:
        if pending := await pending_migrations(tx):
            message = f"the database lacks {', '.join(pending)}: run `rollcall migrate`"
            raise RollcallError(message)
    return db


async def _follow(settings: Settings, job_id: JobId, wait: float) -> int:
    db = await _open(settings)
    try:
        return await _followed(settings, db, job_id, wait)
    finally:
        await db.close()


async def _followed(settings: Settings, db: Database, job_id: JobId, wait: float) -> int:
    followed: Followed = await follow_sync(settings, db, job_id, wait)
    if followed.run is not None and followed.run.finished_at is not None:
        await print_entries(db, followed.run)
    differs = print_outcome(followed)
    if followed.job.state in (JobState.SUCCEEDED, JobState.PARTIAL):
        return _DIFFERS if differs else 0
    return 1


async def _chosen(tx: Tx, connection: str | None) -> ConnectionId:
    if connection is not None:
        return ConnectionId((await existing_connection(tx, connection)).id)
    directories = [row for row in await list_connections(tx) if row.kind not in NOT_ASKED and row.status != "archived"]
    if not directories:
        raise RollcallError("there is no directory to sync; set DJANGO_BASE_URL, or `rollcall connections add --django URL`")
    if len(directories) > 1:
        names = ", ".join(sorted(row.name for row in directories))
        message = f"there is more than one directory; --connection names one of {names}"
        raise RollcallError(message)
    return ConnectionId(directories[0].id)
