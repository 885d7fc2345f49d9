"""`rollcall keys`: who may use the admin API for which company."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.actions.audit_change import Author
from service.actions.issue_key import IssuedKey, KeyRefused, issue_key, revoke_key
from service.cli.directory import existing_company, in_transaction
from service.domain.api_keys import ApiKeyId, KeyScope
from service.domain.errors import RollcallError
from service.domain.member import CompanyId
from service.store.api_keys import list_api_keys, show_api_key
from service.store.database import Tx

__all__ = ["add_to"]

keys = typer.Typer(no_args_is_help=True, help="Who may use the admin API.")

_WHO = "cli"
_MOST = 1000


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(keys, name="keys")


@keys.command("create")
def create(
    company: Annotated[str, typer.Argument(help="The company's name or id.")],
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[list[KeyScope] | None, typer.Option(help="What it may do; may be repeated. Default: read.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="It expires after so many; default: never.")] = None,
) -> None:
    """Make a key and print it, this once."""
    if not name.strip() or not name.isprintable():
        raise typer.BadParameter("must be one line of text", param_hint="NAME")
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)

    async def work(tx: Tx) -> IssuedKey | KeyRefused:
        owner = await existing_company(tx, company)
        return await issue_key(tx, Author(owner.id, _WHO), name.strip(), set(scope or [KeyScope.READ]), expires_at)

    issued = in_transaction(work)
    if isinstance(issued, KeyRefused):
        raise RollcallError("the database's clock is far ahead: the key would have expired already")
    typer.echo(issued.key)
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"\nNobody can show it again. `rollcall keys revoke {issued.row.id}` ends it."
    )


@keys.command("list")
def show(company: Annotated[str, typer.Argument(help="The company's name or id.")]) -> None:
    """List a company's keys, the newest first, the revoked among them."""

    async def read(tx: Tx) -> Table:
        owner = await existing_company(tx, company)
        table = Table(box=None)
        for column in ("id", "name", "scopes", "made", "by", "last used", "state"):
            table.add_column(column, no_wrap=column == "id")
        now = datetime.now(UTC)
        for row in await list_api_keys(tx, owner.id, after=None, limit=_MOST):
            ended = row.expires_at is not None and row.expires_at <= now
            state = "revoked" if row.revoked_at is not None else "expired" if ended else "usable"
            table.add_row(
                str(row.id),
                escape(row.name),
                " ".join(row.scopes),
                _day(row.created_at),
                row.created_by,
                _day(row.last_used_at),
                state,
            )
        return table

    # In a pipe a row stays a line.
    Console(width=None if sys.stdout.isatty() else _MOST, highlight=False).print(in_transaction(read))


@keys.command("revoke")
def revoke(key: Annotated[UUID, typer.Argument(help="Its id, as `rollcall keys list` shows it.")]) -> None:
    """Let a key open nothing from now on."""

    async def work(tx: Tx) -> bool:
        row = await show_api_key(tx, ApiKeyId(key))
        return row is not None and await revoke_key(tx, Author(CompanyId(row.company_id), _WHO), row.id)

    if not in_transaction(work):
        message = f"there is no key {key}; `rollcall keys list` shows a company's"
        raise RollcallError(message)
    typer.echo(f"key {key} opens nothing any more")


def _day(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"
