"""`rollcall subscribers`: who is told of a company's events over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.actions.audit_change import Author
from service.actions.configure_subscriber import (
    NewSubscriber,
    SubscriberNameTaken,
    SubscriberRefused,
    foresee_refusal,
    register_subscriber,
    rotate_subscriber_secret,
)
from service.actions.switch_subscriber import SubscriberDisabled, pause_subscriber, remove_subscriber, resume_subscriber
from service.cli.directory import existing_company, in_transaction
from service.cli.webhook_setup import create_secret
from service.domain.errors import RollcallError
from service.domain.notifications.subscriber import SubscriberState
from service.settings import SecretUnavailable, Settings, is_reference, load_settings, resolve_secret
from service.store.companies import find_company, list_companies
from service.store.database import Database, Tx
from service.store.subscribers import SubscriberRow, list_subscribers, show_subscriber
from service.wiring.notifications import bound_notifications

__all__ = ["Subscriber", "add_to", "existing_subscriber", "group", "printed"]

T = TypeVar("T")

group = typer.Typer(no_args_is_help=True, help="Who is told of a company's events over HTTP, and how that goes.")

# As many as a company may have.
_ALL: Final = 1000
_MANY: Final = 1000

Subscriber = Annotated[str, typer.Argument(help="The subscriber's id, or its name where that is unique.")]
Secret = Annotated[str, typer.Option(help="Where the signing secret is: env:ROLLCALL_SECRET_NAME or file:NAME.")]
NewSecret = Annotated[bool, typer.Option("--new-secret", help="Make the file with a new random secret.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="subscribers")


@group.command()
def add(
    company: Annotated[str, typer.Argument(help="The company's name or id.")],
    name: Annotated[str, typer.Argument(help="Unique in the company.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are posted.")],
    secret: Secret,
    new_secret: NewSecret = False,
    reason: Annotated[list[str] | None, typer.Option(help="Only events with one of these reasons, such as ADMIN.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="Only events that lead to one of these states.")] = None,
    field: Annotated[list[str] | None, typer.Option(help="Only events that changed one of these fields, such as plan.")] = None,
    in_order: Annotated[
        bool, typer.Option("--in-order", help="A member's version waits until the one before it is delivered or given up.")
    ] = False,
) -> None:
    """Tell a system of what happens from now on, and print its id."""
    if not name.strip():
        raise typer.BadParameter("must not be blank", param_hint="NAME")
    _check_reference(secret)
    settings = load_settings()
    wants = {"reasonCodes": reason or [], "newStates": state or [], "changedFields": field or []}
    new = NewSubscriber(name=name, url=url, secret_reference=secret, wants=wants, in_order=in_order)

    async def work(db: Database) -> SubscriberRow:
        async with db.transaction() as tx:
            owner = await existing_company(tx, company)
            if (refused := await foresee_refusal(tx, Author(owner.id, "cli"), new, by_operator=True)) is not None:
                _refuse(refused, company, name)
        # Before anything is written: from its row's commit on, no event may pass by.
        bound = await bound_notifications(settings, owner.id)
        async with db.transaction() as tx:
            row = _accepted(await register_subscriber(tx, Author(owner.id, "cli"), new, bound, by_operator=True), company, name)
            if new_secret:
                # Last: what fails before leaves no file behind.
                create_secret(settings, secret)
            return row

    row = asyncio.run(_with_database(settings, work))
    typer.echo(row.id)
    said = Console(stderr=True, highlight=False, soft_wrap=True)
    said.print(f"\nIt is signed with {_where(settings, secret)}; the subscriber verifies with the same.")
    said.print(f"Whether it answers: rollcall subscribers test {row.id}")


@group.command("list")
def show_all(
    company: Annotated[str | None, typer.Argument(help="The company's name or id; without one: all.")] = None,
) -> None:
    """List the subscribers."""

    async def read(tx: Tx) -> list[tuple[str, SubscriberRow]]:
        owners = await list_companies(tx) if company is None else [await existing_company(tx, company)]
        return [(owner.name, row) for owner in owners for row in await list_subscribers(tx, owner.id, limit=_ALL)]

    table = Table(box=None)
    for title in ("id", "company", "name", "state", "on their way", "failing since", "where"):
        table.add_column(title, no_wrap=True, justify="right" if title == "on their way" else "left")
    for owner, row in in_transaction(read):
        failing = "" if row.failing_since is None else f"{row.failing_since:%Y-%m-%d %H:%M}"
        url = row.url.partition("?")[0]
        table.add_row(str(row.id), escape(owner), escape(row.name), _state(row), _undelivered(row), failing, escape(url))
    printed(table)


@group.command("show")
def show_one(subscriber: Subscriber) -> None:
    """Show a subscriber: where it is called, what it wants, and how it fares."""

    async def read(tx: Tx) -> tuple[SubscriberRow, str]:
        row = await existing_subscriber(tx, subscriber)
        owner = await find_company(tx, str(row.company_id))
        return row, str(row.company_id) if owner is None else owner.name

    row, owner = in_transaction(read)
    ending = [reference for reference in row.secret_references if reference in row.retired_references]
    facts = {
        "id": row.id,
        "company": owner,
        "name": row.name,
        "where": row.url.partition("?")[0],
        "state": _state(row),
        "since": f"{row.state_changed_at:%Y-%m-%d %H:%M:%S}, by {row.state_changed_by}",
        "reasons": ", ".join(row.reason_codes) or "all",
        "states": ", ".join(row.new_states) or "all",
        "fields": ", ".join(row.changed_fields) or "all",
        "order": "of each member" if row.in_order else "none: what fails is overtaken",
        "signed with": ", ".join(row.secret_references) or "nothing that is granted",
        "of these end": ", ".join(ending) or None,
        "on their way": _undelivered(row),
        "failing since": None if row.failing_since is None else f"{row.failing_since:%Y-%m-%d %H:%M:%S}",
        "not before": None if row.wait_until is None else f"{row.wait_until:%Y-%m-%d %H:%M:%S}, as it asked",
        "added": f"{row.created_at:%Y-%m-%d %H:%M:%S}, by {row.created_by}",
    }
    for title, value in facts.items():
        if value is not None:
            typer.echo(f"{title:14} {value}")


@group.command()
def rotate(
    subscriber: Subscriber,
    secret: Secret,
    keep_old_hours: Annotated[int, typer.Option(min=0, max=24 * 30, help="How long the old secrets sign too.")] = 24,
    new_secret: NewSecret = False,
) -> None:
    """Sign with another secret from now on, and with the old ones for a while, so that nothing is refused meanwhile."""
    _check_reference(secret)
    settings = load_settings()

    async def write(tx: Tx) -> SubscriberRow:
        row = await existing_subscriber(tx, subscriber)
        overlap = timedelta(hours=keep_old_hours)
        answer = await rotate_subscriber_secret(tx, _author(row), row.id, secret, overlap, by_operator=True)
        rotated = _accepted(answer, str(row.company_id), subscriber)
        if new_secret:
            create_secret(settings, secret)
        return rotated

    for reference in in_transaction(write).retired_references:
        typer.echo(f"{reference} signs for {keep_old_hours} h more at most")
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"It is signed with {_where(settings, secret)} from now on.")


@group.command()
def pause(subscriber: Subscriber) -> None:
    """Call it no more for a while; what happens meanwhile waits for it."""

    async def write(tx: Tx) -> SubscriberRow | SubscriberDisabled | None:
        row = await existing_subscriber(tx, subscriber)
        return await pause_subscriber(tx, _author(row), row.id)

    if isinstance(in_transaction(write), SubscriberDisabled):
        raise RollcallError("it is disabled, which is more than paused; `rollcall subscribers show` says why")
    typer.echo("paused; `rollcall subscribers resume` goes on with what waits")


@group.command()
def resume(subscriber: Subscriber) -> None:
    """Call a paused or disabled subscriber again, with what waits for it first."""

    async def write(tx: Tx) -> tuple[SubscriberRow, datetime | None]:
        row = await existing_subscriber(tx, subscriber)
        resumed = await resume_subscriber(tx, _author(row), row.id)
        return (row, None) if resumed is None else (resumed.row, resumed.missed_since)

    row, missed_since = in_transaction(write)
    typer.echo(f"it is called again, with {_undelivered(row)} on their way")
    if missed_since is not None:
        since = missed_since.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        typer.echo(
            f"it may have missed what happened since {since}; to bring that: rollcall subscribers replay {row.id} --since {since}"
        )


@group.command()
def remove(subscriber: Subscriber) -> None:
    """Tell it nothing any more; what is on its way to it is given up."""

    async def write(tx: Tx) -> SubscriberRow:
        row = await existing_subscriber(tx, subscriber)
        await remove_subscriber(tx, _author(row), row.id)
        return row

    row = in_transaction(write)
    typer.echo(f"removed; {_undelivered(row)} on their way are given up")


async def existing_subscriber(tx: Tx, id_or_name: str) -> SubscriberRow:
    """The subscriber of that id, or of that name where it is the only one; raises RollcallError."""
    found: list[SubscriberRow] = []
    for owner in await list_companies(tx):
        rows = await list_subscribers(tx, owner.id, limit=_ALL)
        found += [row for row in rows if id_or_name in (str(row.id), row.name)]
    if len(found) != 1:
        problem = "there is no subscriber" if not found else "more than one company has a subscriber"
        message = f"{problem} {id_or_name}; `rollcall subscribers list` shows them with their ids"
        raise RollcallError(message)
    row = await show_subscriber(tx, found[0].id)
    return found[0] if row is None else row


def printed(table: Table) -> None:
    """Print a table; in a pipe a row stays a line."""
    console = Console(highlight=False)
    console.width = console.width if console.is_terminal else 1000
    console.print(table)


async def _with_database(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    url = settings.database_url.get_secret_value()
    db = await Database.connect(url, name="rollcall cli", size=1, behind_pooler=settings.behind_pooler)
    try:
        return await work(db)
    finally:
        await db.close()


def _author(row: SubscriberRow) -> Author:
    return Author(row.company_id, "cli")


def _check_reference(secret: str) -> None:
    if not is_reference(secret):
        raise typer.BadParameter("must be env:ROLLCALL_SECRET_NAME, or file:NAME below SECRETS_DIR", param_hint="--secret")


def _accepted(answer: SubscriberRow | SubscriberRefused | SubscriberNameTaken | None, company: str, name: str) -> SubscriberRow:
    if isinstance(answer, SubscriberRefused | SubscriberNameTaken):
        _refuse(answer, company, name)
    if answer is None:
        message = f"subscriber {name} was removed meanwhile"
        raise RollcallError(message)
    return answer


def _refuse(answer: SubscriberRefused | SubscriberNameTaken, company: str, name: str) -> NoReturn:
    if isinstance(answer, SubscriberRefused):
        message = f"{answer.where}: {answer.reason}"
    else:
        message = f"{company} has a subscriber named {name} already"
    raise RollcallError(message)


def _where(settings: Settings, reference: str) -> str:
    try:
        resolve_secret(reference, settings.secrets_dir)
    except SecretUnavailable as error:
        return f"{reference}, which every worker must have (here: {error})"
    return reference


def _state(row: SubscriberRow) -> str:
    if row.state is not SubscriberState.DISABLED or row.disabled_because is None:
        return row.state.value
    return f"disabled, {row.disabled_because.value}"


def _undelivered(row: SubscriberRow) -> str:
    return f"{row.undelivered:,}{'+' if row.undelivered >= _MANY else ''}"
