"""`rollcall companies` and `rollcall connections`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar
from zoneinfo import ZoneInfo

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.actions.register_company import CompanyRefused, is_time_zone, register_company
from service.cli.directory_setup import read_directory
from service.cli.webhook_setup import WebhookSetup, create_secret, curl, read_setup, secret_key, signed_headers, webhook_url
from service.domain.change import SOURCE_FIELDS, VersionKind
from service.domain.errors import Contention, RollcallError
from service.domain.member import ConnectionId
from service.domain.webhooks.schemes import SchemeName
from service.settings import Settings, load_settings
from service.store.companies import CompanyRow, find_company, list_companies
from service.store.connections import ConnectionRow, insert_connection, list_connections
from service.store.database import Database, Tx

__all__ = ["add_to", "existing_company", "existing_connection", "in_transaction"]

T = TypeVar("T")

companies = typer.Typer(no_args_is_help=True, help="Whose members they are.")
connections = typer.Typer(no_args_is_help=True, help="Where members come from.")


class Kind(StrEnum):
    """What a connection's source is."""

    STREAM = "stream"


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(companies, name="companies")
    app.add_typer(connections, name="connections")


def in_transaction(work: Callable[[Tx], Awaitable[T]]) -> T:
    """Run `work` in one transaction of the configured database."""

    async def run() -> T:
        settings = load_settings()
        url = settings.database_url.get_secret_value()
        db = await Database.connect(url, name="rollcall cli", size=1, behind_pooler=settings.behind_pooler)
        try:
            async with db.transaction() as tx:
                return await work(tx)
        finally:
            await db.close()

    return asyncio.run(run())


@companies.command("add")
def add_company(
    name: Annotated[str, typer.Argument(help="Unique; any text.")],
    time_zone: Annotated[str, typer.Option(help="Whose midnight counts, such as Atlantic/Reykjavik.")] = "UTC",
    grace_days: Annotated[int | None, typer.Option(min=0, max=3650, help="Days of grace after expiry; default GRACE_DAYS.")] = None,
) -> None:
    """Add a company and print its id."""
    if not name.strip():
        raise typer.BadParameter("must not be blank", param_hint="NAME")
    if not is_time_zone(time_zone):
        message = f"{time_zone} is no time zone; they look like {ZoneInfo('Europe/Paris')}"
        raise typer.BadParameter(message, param_hint="--time-zone")
    company = in_transaction(lambda tx: register_company(tx, name, time_zone, grace_days, "cli"))
    if isinstance(company, CompanyRefused):
        raise RollcallError(company.reason)
    typer.echo(company.id)


@companies.command("list")
def show_companies() -> None:
    """List the companies."""
    table = _table("id", "name", "time zone", "grace days")
    for company in in_transaction(list_companies):
        grace = "default" if company.grace_days is None else str(company.grace_days)
        table.add_row(str(company.id), escape(company.name), company.time_zone, grace)
    _print(table)


@connections.command("add")
def add_connection(
    company: Annotated[str, typer.Argument(help="The company's name or id.")],
    name: Annotated[str, typer.Argument(help="Unique in the company.")],
    kind: Annotated[Kind, typer.Option(help="What the source is: `stream` publishes MEMBER_CHANGED itself.")] = Kind.STREAM,
    versions: Annotated[
        VersionKind | None,
        typer.Option(
            help="How its changes are ordered: a number per member, their updatedAt, or their arrival. "
            "Default: sequence; updated_at with --webhook; with a directory what the mapping has."
        ),
    ] = None,
    fields: Annotated[
        str | None,
        typer.Option(
            help="The member fields that belong to the source, comma-separated; the others stay local. "
            "Default: all; with --webhook or a directory those of the mapping."
        ),
    ] = None,
    webhook: Annotated[SchemeName | None, typer.Option(help="It sends webhooks, signed by this scheme.")] = None,
    django: Annotated[str | None, typer.Option(metavar="URL", help="It is a Django REST framework API.")] = None,
    csv: Annotated[str | None, typer.Option(metavar="LOCATION", help="It is a CSV: file:NAME below CSV_DIR, or a URL.")] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="It is a directory of a kind that an extension adds; `rollcall doctor` lists them."),
    ] = None,
    directory: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Describes --django or --csv: path, auth, paging, pageSize, modifiedSince; delimiter, encoding; mapping=@FILE. "
            "Or --source: what it asks for; NAME:=JSON for what is no text.",
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Where the key of the directory is: env:ROLLCALL_SECRET_NAME or file:NAME.")
    ] = None,
    secret: Annotated[
        str | None, typer.Option(help="Where the edge finds the webhooks' secret: env:ROLLCALL_SECRET_NAME or file:NAME.")
    ] = None,
    new_secret: Annotated[bool, typer.Option("--new-secret", help="Make the file with a new random secret.")] = False,
    hmac: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Describes --webhook hmac: header, encoding, content, prefix and others."),
    ] = None,
    mapping: Annotated[Path | None, typer.Option(help="A JSON file that says what the payload means.")] = None,
    rate: Annotated[int, typer.Option(min=1, max=100_000, help="Webhooks a second.")] = 500,
    url: Annotated[str | None, typer.Option(help="Of the edge, for what is printed; default http://localhost:PORT.")] = None,
) -> None:
    """Add a connection and print its id; with --webhook also where to post, and a request that works."""
    asked = read_directory(django, csv, source, directory or [], key)
    setup = read_setup(webhook, hmac or [], mapping, secret, rate) if webhook is not None else None
    if setup is None and (secret or new_secret or hmac or mapping):
        raise typer.BadParameter("needed with --secret, --new-secret, --hmac and --mapping", param_hint="--webhook")
    sources = [source for source in (asked, setup) if source is not None]
    mapped = _fields_of_the_source(fields, [source.mapped_fields for source in sources])
    kind_of_version = versions or (sources[0].versions if sources else VersionKind.SEQUENCE)

    settings = load_settings()

    async def add(tx: Tx) -> ConnectionRow:
        owner = await existing_company(tx, company)
        if asked is not None:
            row = await asked.store(tx, owner.id, name, kind_of_version, mapped)
        else:
            row = await insert_connection(tx, owner.id, name, kind, kind_of_version, mapped)
        if setup is not None:
            await setup.store(tx, row.id, row.company_id)
            if new_secret:
                # Last: what fails before leaves no file behind.
                create_secret(settings, setup.reference)
        return row

    try:
        row = in_transaction(add)
    except Contention:
        message = f"{company} has a connection named {name} already"
        raise RollcallError(message) from None
    typer.echo(row.id)
    if asked is not None:
        again = f"rollcall connections test {row.id}"
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"\nWhether it can be asked: {again}")
    if setup is not None:
        _show_request(settings, setup, row.id, url)


def _fields_of_the_source(given: str | None, mapped: Sequence[Sequence[str]]) -> list[str]:
    """The member fields that nobody else touches, of --fields or of the mappings; raises BadParameter."""
    if given is None:
        return sorted({field for fields in mapped for field in fields}) if mapped else sorted(SOURCE_FIELDS)
    fields = [field.strip() for field in given.split(",") if field.strip()]
    if unknown := sorted(set(fields) - SOURCE_FIELDS):
        message = f"unknown: {', '.join(unknown)}; there are {', '.join(sorted(SOURCE_FIELDS))}"
        raise typer.BadParameter(message, param_hint="--fields")
    if "name" not in fields:
        raise typer.BadParameter("name must be among them: a new member needs one", param_hint="--fields")
    return fields


@connections.command("list")
def show_connections(
    company: Annotated[str | None, typer.Argument(help="The company's name or id; without one: all.")] = None,
) -> None:
    """List the connections."""

    async def read(tx: Tx) -> Table:
        owner = await existing_company(tx, company) if company is not None else None
        names = {row.id: row.name for row in await list_companies(tx)}
        table = _table("id", "company", "name", "kind", "versions", "status", "fields of the source")
        for row in await list_connections(tx, owner.id if owner else None):
            fields = "all" if set(row.mapped_fields) == SOURCE_FIELDS else ", ".join(row.mapped_fields)
            table.add_row(
                str(row.id), escape(names[row.company_id]), escape(row.name), row.kind, row.version_kind, row.status, fields
            )
        return table

    _print(in_transaction(read))


def _show_request(settings: Settings, setup: WebhookSetup, connection_id: ConnectionId, base: str | None) -> None:
    """Say on stderr, so that the id stays alone on stdout, where webhooks go and how one looks."""
    said = Console(stderr=True, highlight=False, soft_wrap=True)
    target = webhook_url(settings, connection_id, base)
    said.print(f"\nWebhooks of this connection are posted to\n{target}")
    try:
        key = secret_key(settings, setup.scheme, setup.reference)
    except RollcallError as error:
        said.print(f"\n{escape(str(error))} here. Where it is, `rollcall webhooks send {connection_id}` sends one.")
        return
    until = ", signed for the next five minutes" if setup.scheme.timed else ""
    said.print(f"\nOne of them{until}:")
    if setup.mapping is None:
        body = orjson.dumps({"id": "ada", "action": "create", "updated_at": datetime.now(UTC).isoformat(), "name": "Ada Lovelace"})
        said.out(curl(target, signed_headers(setup.scheme, key, body), body), highlight=False)
    said.print(f"\nAlways: rollcall webhooks send {connection_id} --data @payload.json")


def _table(*names: str) -> Table:
    table = Table(box=None)
    for name in names:
        # An id that is cut off is of no use to anybody.
        table.add_column(name, no_wrap=name == "id")
    return table


def _print(table: Table) -> None:
    # In a pipe a row stays a line.
    Console(width=None if sys.stdout.isatty() else 1000, highlight=False).print(table)


async def existing_company(tx: Tx, id_or_name: str) -> CompanyRow:
    """The company of that id or name; raises RollcallError."""
    company = await find_company(tx, id_or_name)
    if company is None:
        message = f"there is no company {id_or_name}; `rollcall companies list` shows them"
        raise RollcallError(message)
    return company


async def existing_connection(tx: Tx, id_or_name: str) -> ConnectionRow:
    """The connection of that id, or of that name where it is the only one; raises RollcallError."""
    found = [row for row in await list_connections(tx) if id_or_name in (str(row.id), row.name)]
    if len(found) != 1:
        problem = "there is no connection" if not found else "more than one company has a connection"
        message = f"{problem} {id_or_name}; `rollcall connections list` shows them with their ids"
        raise RollcallError(message)
    return found[0]
