"""`rollcall secrets`: which of the operator's secrets a company may refer to."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli.directory import existing_company, in_transaction
from service.domain.errors import RollcallError
from service.settings import is_reference
from service.store.database import Tx
from service.store.secret_grants import SecretGrant, grant_secret, list_secret_grants, revoke_secret

__all__ = ["add_to"]

secrets = typer.Typer(no_args_is_help=True, help="Which of the operator's secrets a company may refer to; never their values.")


def _reference(text: str) -> str:
    if not is_reference(text):
        raise typer.BadParameter("must be env:ROLLCALL_SECRET_NAME, or file:NAME below SECRETS_DIR")
    return text


Company = Annotated[str, typer.Argument(help="The company's name or id.")]
Reference = Annotated[str, typer.Argument(parser=_reference, metavar="REFERENCE", help="env:ROLLCALL_SECRET_NAME or file:NAME.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(secrets, name="secrets")


@secrets.command()
def grant(company: Company, reference: Reference) -> None:
    """Let a company refer to a secret, also after it was revoked."""

    async def write(tx: Tx) -> None:
        await grant_secret(tx, (await existing_company(tx, company)).id, reference)

    in_transaction(write)


@secrets.command()
def revoke(company: Company, reference: Reference) -> None:
    """Take a secret from a company: nothing uses it after five seconds, and nothing gives it back but `grant`."""

    async def write(tx: Tx) -> list[str]:
        owner = await existing_company(tx, company)
        if not await revoke_secret(tx, owner.id, reference):
            message = f"{owner.name} may not refer to {reference}; `rollcall secrets list` shows what it may"
            raise RollcallError(message)
        (found,) = [one for one in await list_secret_grants(tx, owner.id) if one.reference == reference]
        return found.holders

    for holder in in_transaction(write):
        typer.echo(f"{holder} stops using it within five seconds; `rollcall doctor` says whether it has another")


@secrets.command("list")
def show_list(
    company: Annotated[str | None, typer.Argument(help="The company's name or id; without one: all.")] = None,
) -> None:
    """List what was granted and revoked, and the connections and subscribers that hold it."""

    async def read(tx: Tx) -> list[SecretGrant]:
        return await list_secret_grants(tx, (await existing_company(tx, company)).id if company is not None else None)

    table = Table("company", "reference", "granted", "revoked", "held by", box=None)
    for one in in_transaction(read):
        revoked = f"{one.revoked_at:%Y-%m-%d %H:%M}" if one.revoked_at else ""
        held_by = escape(", ".join(one.holders))
        table.add_row(escape(one.company), escape(one.reference), f"{one.granted_at:%Y-%m-%d %H:%M}", revoked, held_by)
    # In a pipe a row stays a line.
    Console(width=None if sys.stdout.isatty() else 1000, highlight=False).print(table)
