"""`rollcall connections test` and `preview`: whether a connection works, and what its source's data would mean."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Final

import orjson
import typer
from rich.console import Console
from rich.markup import escape

from service.actions.probe_directory import Probe, probe_directory, release_by_probe
from service.cli.directory import connections, existing_connection, in_transaction
from service.cli.webhooks import check_webhooks, preview_webhook
from service.clients.directories.added import AddedSources
from service.domain.errors import RollcallError
from service.settings import Settings, load_settings
from service.store.connections import DirectoryRow, find_directory
from service.store.database import Database, Tx
from service.store.webhooks import WebhookRow, find_webhook
from service.wiring.directories import described, opened_source
from service.wiring.extensions import load_extensions

__all__ = ["add_to"]

_SHOWN: Final = 3

Connection = Annotated[str, typer.Argument(help="The connection's id, or its name where that is unique.")]


def add_to(_: typer.Typer) -> None:
    """Add the commands."""
    connections.command("test")(check)
    connections.command("preview")(preview)


def check(
    connection: Connection,
    url: Annotated[str | None, typer.Option(help="Of the edge, for webhooks; default http://localhost:PORT.")] = None,
) -> None:
    """Say whether a connection's directory can be read, and its webhooks taken."""
    settings = load_settings()
    directory, webhook = in_transaction(lambda tx: _both(tx, connection))
    if directory is not None:
        _check_directory(settings, directory)
    if webhook is not None:
        check_webhooks(settings, webhook, url)


def preview(
    connection: Connection,
    data: Annotated[
        str | None, typer.Option(help="A webhook's payload, a JSON object; @FILE reads it from a file, @- from stdin.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many records of the directory's first page.")] = _SHOWN,
) -> None:
    """Show what the directory's first page, or with --data a webhook, would mean; nothing is sent or stored."""
    settings = load_settings()
    directory, webhook = in_transaction(lambda tx: _both(tx, connection))
    if data is not None:
        if webhook is None:
            message = f"connection {connection} takes no webhooks; `rollcall connections add --webhook` makes one that does"
            raise RollcallError(message)
        preview_webhook(webhook, data)
    elif directory is None:
        raise typer.BadParameter("a payload is needed: the connection has no directory", param_hint="--data")
    else:
        _preview_directory(settings, directory, limit)


async def _both(tx: Tx, id_or_name: str) -> tuple[DirectoryRow | None, WebhookRow | None]:
    row = await existing_connection(tx, id_or_name)
    directory, webhook = await find_directory(tx, row.id), await find_webhook(tx, row.id)
    if directory is None and webhook is None:
        message = f"connection {id_or_name} has no directory and takes no webhooks: its source publishes by itself"
        raise RollcallError(message)
    return directory, webhook


async def _tested(settings: Settings, row: DirectoryRow, added: AddedSources) -> Probe:
    url = settings.database_url.get_secret_value()
    db = await Database.connect(url, name="rollcall cli", size=1, behind_pooler=settings.behind_pooler)
    try:
        return await release_by_probe(
            db, "cli", row, partial(opened_source, settings, added=added), partial(described, added=added)
        )
    finally:
        await db.close()


def _check_directory(settings: Settings, row: DirectoryRow) -> None:
    added = load_extensions().sources
    directory = described(row, added)
    probe = asyncio.run(_tested(settings, row, added))
    health = probe.health
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"directory  {escape(directory.place)}")
    console.print(f"key        {row.secret_reference or 'none'}")
    for name, found in (("reachable", health.reachable), ("authorised", health.authorised), ("shape", health.shape)):
        if found is not None:
            console.print(f"{name:<10} {'[green]✓[/]' if found else '[red]✗[/]'}")
    if health.problem is not None or health.page is None:
        raise RollcallError(probe.problem or "the directory shows no page")
    count = f" of {health.page.count:,}" if health.page.count is not None else ""
    console.print(f"records    {len(probe.records):,}{count} on the first page, {probe.fit:,} fit the mapping")
    console.print(f"mapping    {', '.join(directory.mapping.mapped_fields)}")
    for reason in sorted({record.unfit for record in probe.records if record.unfit is not None})[:_SHOWN]:
        console.print(f"           [red]✗[/] {escape(reason)}")
    if probe.problem is not None:
        raise RollcallError("no record fits the mapping; `rollcall connections preview` shows why")
    if probe.released:
        typer.echo("released   it was blocked, and is synced again")


def _preview_directory(settings: Settings, row: DirectoryRow, limit: int) -> None:
    added = load_extensions().sources
    probe = asyncio.run(probe_directory(row, partial(opened_source, settings, added=added), partial(described, added=added)))
    if probe.health.page is None:
        raise RollcallError(probe.health.problem or "the directory shows no page")
    for record in probe.records[:limit]:
        shown: dict[str, object] = {"externalId": record.external_id}
        if record.unfit is not None:
            shown["unfit"] = record.unfit
        else:
            shown |= {"action": "remove" if record.left else "upsert"}
            shown |= {} if record.updated_at is None else {"updatedAt": record.updated_at}
            shown |= {} if record.version is None else {"version": record.version}
            shown |= {} if record.left else {"member": record.member}
        typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
