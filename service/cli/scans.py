"""`rollcall scans`: what is wrong with members, as far as providers can tell."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Any, Final, assert_never
from uuid import UUID

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.actions.audit_change import Author
from service.actions.configure_scans import SHORTEST_SCAN_INTERVAL, ScansRefused, configure_scans
from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.request_scan import NoProviders, request_scan
from service.cli.directory import existing_company, in_transaction
from service.cli.job_following import follow_job
from service.domain.errors import RollcallError
from service.domain.jobs import JobState
from service.domain.member import MemberId
from service.domain.scans import FindingState, Severity
from service.domain.schedule_words import interval_in_words
from service.settings import Settings, load_settings
from service.store.companies import CompanyRow, list_companies
from service.store.database import Database, Tx
from service.store.findings import FindingFilter, FindingRow, list_findings, list_findings_of_scan
from service.store.scan_parts import ScanPartRow, list_parts
from service.store.scans import ScanRow, find_scan, find_scan_of_job, list_scans
from service.telemetry.logs import configure_logs
from service.wiring.extensions import load_extensions
from service.wiring.scans import scan_providers

__all__ = ["add_to"]

scans = typer.Typer(no_args_is_help=True, help="What is wrong with members: duplicates, foreign addresses, breaches.")

# As diff says it.
_FOUND: Final = 2

Company = Annotated[str | None, typer.Option(help="By name or id; needed where there are several.")]
ScanId = Annotated[UUID, typer.Argument(metavar="ID", help="The scan's id, as `rollcall scans list` shows it.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(scans, name="scans")


@scans.command()
def run(
    company: Company = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds after which a scan that no worker takes is done right here.")] = 3,
) -> None:
    """Let the company's providers look at its members, and follow that to its end.

    Exit status 0: nothing new was found; 1: a provider failed, or is to be asked again; 2: there are new findings.
    """
    raise typer.Exit(asyncio.run(_run(load_settings(), company, wait)))


@scans.command()
def configure(
    company: Company = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=SETTINGS]", help="Who looks, each with its settings as JSON; all of them at once."),
    ] = None,
    nobody: Annotated[bool, typer.Option("--nobody", help="Let nobody look any more.")] = False,
    every: Annotated[
        int | None, typer.Option(metavar="MINUTES", min=SHORTEST_SCAN_INTERVAL, max=527_040, help="How often, by itself.")
    ] = None,
    never: Annotated[bool, typer.Option("--never", help="No more by itself.")] = False,
) -> None:
    """Say who looks at the company's members in a scan, and how often; without options, show it.

    For example: --provider duplicates --provider 'email_domain={"allowedDomains": ["choir.example"]}' --every 1440
    """
    if nobody and provider:
        raise typer.BadParameter("somebody, or nobody: not both", param_hint="--nobody")
    if never and every is not None:
        raise typer.BadParameter("after each interval, or never: not both", param_hint="--never")
    given: dict[str, Any] = {}
    if provider or nobody:
        given["scan_providers"] = dict(map(_provider, provider or []))
    if every is not None or never:
        given["scan_interval_minutes"] = every

    async def write(tx: Tx) -> CompanyRow | ScansRefused | None:
        owner = await _chosen(tx, company)
        if not given:
            return owner
        installed = scan_providers(load_settings(), load_extensions())
        return await configure_scans(tx, Author(owner.id, "cli"), given, installed, by_operator=True)

    answer = in_transaction(write)
    if not isinstance(answer, CompanyRow):
        message = "the company is gone" if answer is None else f"{answer.where}: {answer.reason}"
        raise RollcallError(message)
    for name, settings in sorted(answer.scan_providers.items()):
        typer.echo(f"{name}={orjson.dumps(settings).decode()}" if settings else name)
    if not answer.scan_providers:
        typer.echo("nobody")
    interval = answer.scan_interval_ms
    typer.echo("when somebody asks" if interval is None else interval_in_words(timedelta(milliseconds=interval)))


@scans.command("list")
def show_scans(
    company: Company = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
) -> None:
    """List what became of the last scans, the newest first."""

    async def read(tx: Tx) -> list[tuple[ScanRow, list[ScanPartRow]]]:
        owner = await _chosen(tx, company)
        rows = await list_scans(tx, owner.id, limit=limit)
        parts = await list_parts(tx, [row.id for row in rows])
        return [(row, [part for part in parts if part.scan_id == row.id]) for row in rows]

    table = _table(("started", "status"), ("members", "found", "new", "resolved", "seconds"), ("id", "why"))
    for row, parts in in_transaction(read):
        took = "" if row.finished_at is None else f"{(row.finished_at - row.started_at).total_seconds():.1f}"
        table.add_row(
            f"{row.started_at:%Y-%m-%d %H:%M:%S}",
            row.status,
            f"{row.members:,}",
            f"{sum(part.found for part in parts):,}",
            f"{sum(part.opened for part in parts):,}",
            f"{sum(part.resolved for part in parts):,}",
            took,
            str(row.id),
            escape("; ".join(f"{part.provider}: {part.error}" for part in parts if part.error)),
        )
    _print(table)


@scans.command()
def show(scan_id: ScanId) -> None:
    """Show what each provider came to in one scan."""

    async def read(tx: Tx) -> tuple[ScanRow | None, list[ScanPartRow]]:
        return await find_scan(tx, scan_id), await list_parts(tx, [scan_id])

    row, parts = in_transaction(read)
    if row is None:
        raise _no_scan(scan_id)
    _print_parts(row, parts)


@scans.command()
def findings(
    company: Company = None,
    scan: Annotated[
        UUID | None, typer.Option(metavar="ID", help="What this scan found, open or not; no other filter goes with it.")
    ] = None,
    state: Annotated[FindingState, typer.Option(help="Those that are so now, or were.")] = FindingState.OPEN,
    provider: Annotated[str | None, typer.Option(help="Only this provider's, such as duplicates.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind, such as duplicate_email.")] = None,
    severity: Annotated[Severity | None, typer.Option(help="Only these.")] = None,
    member: Annotated[UUID | None, typer.Option(metavar="ID", help="Only this member's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
) -> None:
    """List what providers say of members, the newest first; members by their ids."""
    wanted = FindingFilter(
        state=state, provider=provider, kind=kind, severity=severity, member_id=None if member is None else MemberId(member)
    )
    if scan is not None and wanted != FindingFilter():
        raise typer.BadParameter("goes with no other filter", param_hint="--scan")

    async def read(tx: Tx) -> list[FindingRow]:
        owner = await _chosen(tx, company)
        if scan is None:
            return await list_findings(tx, owner.id, wanted, limit=limit + 1)
        row = await find_scan(tx, scan, owner.id)
        if row is None:
            raise _no_scan(scan)
        return await list_findings_of_scan(tx, owner.id, row.number, limit=limit + 1)

    found = in_transaction(read)
    table = _table(("severity", "kind", "key", "member", "first seen", "last seen", "state", "detail"), (), ())
    for row in found[:limit]:
        table.add_row(
            row.severity,
            row.kind,
            escape(row.key),
            str(row.member_id),
            f"{row.first_seen_at:%Y-%m-%d %H:%M}",
            f"{row.last_seen_at:%Y-%m-%d %H:%M}",
            row.state if row.resolution is None else row.resolution.replace("_", " "),
            escape(orjson.dumps(row.detail).decode()) if row.detail else "",
        )
    _print(table)
    if len(found) > limit:
        typer.echo(f"there are more than {limit:,}; --limit shows them", err=True)


async def _run(settings: Settings, company: str | None, wait: float) -> int:
    # What is run here tells of its problems in its outcome.
    configure_logs("console", "critical")
    url = settings.database_url.get_secret_value()
    db = await Database.connect(url, name="rollcall cli", size=4, behind_pooler=settings.behind_pooler)
    try:
        async with db.transaction() as tx:
            owner = await _chosen(tx, company)
            answer = await request_scan(tx, owner.id, requested_by="cli")
        match answer:
            case Enqueued(job_id=job_id):
                job = await follow_job(settings, db, job_id, wait)
            case AlreadyRunning(job_id=other):
                message = f"the company is being scanned already, by job {other}"
                raise RollcallError(message)
            case NoProviders():
                message = f"{owner.name} has no scan providers; `rollcall scans configure` sets them"
                raise RollcallError(message)
            case None:
                message = "the company is gone"
                raise RollcallError(message)
            case _:
                assert_never(answer)
        async with db.transaction() as tx:
            row = await find_scan_of_job(tx, job_id)
            parts = [] if row is None else await list_parts(tx, [row.id])
    finally:
        await db.close()
    if row is not None:
        _print_parts(row, parts)
    if job.state is JobState.QUEUED:
        message = f"not done yet: {job.error}; a worker tries again (job {job.id})"
        raise RollcallError(message)
    if job.state is not JobState.SUCCEEDED:
        message = f"{job.state.value}: {job.error or 'see above'}"
        raise RollcallError(message)
    return _FOUND if any(part.opened for part in parts) else 0


def _provider(text: str) -> tuple[str, dict[str, Any]]:
    name, _, settings = text.partition("=")
    try:
        read = orjson.loads(settings) if settings else {}
    except orjson.JSONDecodeError:
        read = None
    if not isinstance(read, dict):
        raise typer.BadParameter("settings are a JSON object, such as {}", param_hint="--provider")
    return name, read


async def _chosen(tx: Tx, company: str | None) -> CompanyRow:
    if company is not None:
        return await existing_company(tx, company)
    companies = await list_companies(tx)
    if len(companies) != 1:
        message = "there is no company yet" if not companies else "there are several companies: --company says which"
        raise RollcallError(message)
    return companies[0]


def _no_scan(scan_id: UUID) -> RollcallError:
    message = f"there is no scan {scan_id}; `rollcall scans list` shows them"
    return RollcallError(message)


def _print_parts(row: ScanRow, parts: list[ScanPartRow]) -> None:
    typer.echo(f"scan {row.id} of {row.members:,} members: {row.status}")
    table = _table(("provider", "state"), ("found", "new", "resolved", "seconds"), ("why",))
    for part in parts:
        took = "" if part.finished_at is None else f"{(part.finished_at - part.started_at).total_seconds():.1f}"
        counts = (f"{count:,}" for count in (part.found, part.opened, part.resolved))
        table.add_row(part.provider, part.state, *counts, took, escape(part.error or ""))
    _print(table)


def _table(before: tuple[str, ...], numbers: tuple[str, ...], after: tuple[str, ...]) -> Table:
    table = Table(box=None)
    for name in (*before, *numbers, *after):
        table.add_column(name, no_wrap=True, justify="right" if name in numbers else "left")
    return table


def _print(table: Table) -> None:
    # A row is a line, which a narrow terminal breaks: an id or a reason that is cut off is of no use to anybody.
    Console(width=1000, highlight=False).print(table)
