"""`rollcall webhooks send`, and of `rollcall connections` what is about webhooks."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import orjson
import typer
from pydantic import ValidationError
from rich.console import Console

from contracts.channels import WEBHOOK_RECEIVED
from contracts.envelope import Envelope
from contracts.errors import describe
from contracts.webhook_received import WebhookReceivedV1
from service import translation
from service.cli.directory import connections, existing_connection, in_transaction
from service.cli.tracing import traced_command
from service.cli.webhook_setup import (
    add_secret,
    create_secret,
    curl,
    mapping_of,
    scheme_of,
    secret_key,
    signed_headers,
    webhook_url,
)
from service.clients.webhook_sender import send_webhook
from service.domain.change import UpstreamUpsert
from service.domain.errors import Park, RollcallError
from service.domain.webhooks.mapping import Ignored
from service.settings import Settings, is_reference, load_settings
from service.store.database import Tx
from service.store.webhook_secrets import retire_webhook_secrets
from service.store.webhooks import WebhookRow, find_webhook
from service.telemetry import names
from service.telemetry.tracing import SpanKind

__all__ = ["add_to", "check_webhooks", "preview_webhook"]

webhooks = typer.Typer(no_args_is_help=True, help="Webhooks, as a source sends them.")

_ACCEPTED: Final = 202

Connection = Annotated[str, typer.Argument(help="The connection's id, or its name where that is unique.")]
Data = Annotated[str, typer.Option(help="The payload, a JSON object; @FILE reads it from a file, @- from stdin.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(webhooks, name="webhooks")
    connections.command("rotate")(rotate)


@webhooks.command()
def send(
    connection: Connection,
    data: Data,
    url: Annotated[str | None, typer.Option(help="Of the edge; default http://localhost:PORT.")] = None,
    message_id: Annotated[
        str | None, typer.Option("--id", help="Of schemes that have one: the same id is the same webhook.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the signed request as a curl line instead.")] = False,
) -> None:
    """Send one webhook, signed with the connection's newest secret."""
    settings = load_settings()
    row = in_transaction(lambda tx: _webhook(tx, connection))
    by, body = scheme_of(row), _data(data)
    if not row.secret_references:
        raise RollcallError("the connection has no secret that still holds")
    headers = signed_headers(by, secret_key(settings, by, row.secret_references[0]), body, message_id)
    target = webhook_url(settings, row.connection_id, url)
    if dry_run:
        typer.echo(curl(target, headers, body))
        return
    with traced_command(settings, names.POST, SpanKind.CLIENT) as traced:
        if traced.traceparent is not None:
            headers.append(("traceparent", traced.traceparent))
        try:
            status, answer = send_webhook(target, headers, body)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--url") from None
        where = urlsplit(target)
        traced.note(
            {
                names.HTTP_REQUEST_METHOD: names.POST,
                names.HTTP_STATUS_CODE: status,
                names.SERVER_ADDRESS: where.hostname or "",
                names.SERVER_PORT: where.port or (443 if where.scheme == "https" else 80),
            }
        )
    typer.echo(f"{status} {answer}")
    if status != _ACCEPTED:
        raise typer.Exit(1)


def check_webhooks(settings: Settings, row: WebhookRow, url: str | None) -> None:
    """Say whether a connection's webhooks can be taken: its secrets, its mapping, and where to post; raises RollcallError."""
    console = Console(highlight=False, soft_wrap=True)
    by = scheme_of(row)
    usable = 0
    console.print(f"scheme   {by.name}, header {by.signature_header.decode()}")
    for reference, not_after in zip(row.secret_references, row.not_afters, strict=True):
        end = f", until {not_after:%Y-%m-%d %H:%M} UTC" if not_after else ""
        try:
            secret_key(settings, by, reference)
        except RollcallError as error:
            console.print(f"secret   [red]✗[/] {error}")
        else:
            usable += 1
            console.print(f"secret   [green]✓[/] {reference}{end}")
    fields = ", ".join(mapping_of(row).mapped_fields)
    console.print(f"mapping  [green]✓[/] {'default' if row.mapping is None else 'its own'}: {fields}")
    console.print(f"rate     {row.rate_per_second} a second")
    console.print(f"post to  {webhook_url(settings, row.connection_id, url)}")
    if not usable:
        raise RollcallError(
            "no secret can be used here: webhooks are answered 503 where the edge sees the same; see `rollcall doctor`"
        )


def preview_webhook(row: WebhookRow, data: str) -> None:
    """Show the change that a payload would mean; raises RollcallError."""
    now = datetime.now(UTC)
    try:
        message = WebhookReceivedV1(
            company_id=row.company_id,
            connection_id=row.connection_id,
            dedupe_key="preview",
            received_at=now,
            content_type="application/json",
            body=_data(data).decode(),
        )
        envelope = Envelope(id="preview", source="rollcall preview", type=WEBHOOK_RECEIVED.message_type, time=now)
        change = translation.to_mapped_change(message, envelope, mapping_of(row))
    except ValidationError as error:
        raise RollcallError(describe(error)) from None
    except Park as error:
        message_text = f"would be parked: {error}"
        raise RollcallError(message_text) from None
    if isinstance(change, Ignored):
        typer.echo("ignored: the mapping says that this action means nothing here")
        return
    shown: dict[str, object] = {
        "externalId": change.external_id,
        "action": "upsert" if isinstance(change, UpstreamUpsert) else "remove",
        "version": change.source_version,
        "updatedAt": change.updated_at,
    }
    if isinstance(change, UpstreamUpsert):
        shown["member"] = change.fields
    typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())


def rotate(
    connection: Connection,
    secret: Annotated[str, typer.Option(help="The new secret: env:ROLLCALL_SECRET_NAME or file:NAME.")],
    keep_old_hours: Annotated[int, typer.Option(min=0, max=24 * 365, help="How long the old secrets still hold.")] = 24,
    new_secret: Annotated[bool, typer.Option("--new-secret", help="Make the file with a new random secret.")] = False,
) -> None:
    """Add a secret, and let the others end."""
    settings = load_settings()
    if not is_reference(secret):
        raise typer.BadParameter("must be env:ROLLCALL_SECRET_NAME, or file:NAME below SECRETS_DIR", param_hint="--secret")
    row = in_transaction(lambda tx: _webhook(tx, connection))
    if new_secret:
        create_secret(settings, secret)
    secret_key(settings, scheme_of(row), secret)

    async def write(tx: Tx) -> list[str]:
        await add_secret(tx, row.connection_id, row.company_id, secret)
        return await retire_webhook_secrets(tx, row.connection_id, secret, timedelta(hours=keep_old_hours))

    for reference in in_transaction(write):
        typer.echo(f"{reference} holds for {keep_old_hours} h more at most")


def _data(text: str) -> bytes:
    try:
        if text == "@-":
            return sys.stdin.buffer.read()
        return Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
    except OSError as error:
        message = f"{text[1:]} cannot be read: {error.strerror}"
        raise typer.BadParameter(message, param_hint="--data") from None


async def _webhook(tx: Tx, id_or_name: str) -> WebhookRow:
    row = await find_webhook(tx, (await existing_connection(tx, id_or_name)).id)
    if row is None:
        message = f"connection {id_or_name} takes no webhooks; `rollcall connections add --webhook` makes one that does"
        raise RollcallError(message)
    return row
