"""`rollcall publish` and `rollcall events`."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.console import Console
from uuid_utils.compat import uuid7

from contracts.channels import MEMBER_CHANGED
from contracts.envelope import Envelope
from contracts.errors import describe
from contracts.member_changed import MemberChangedV1
from contracts.membership_updated import MembershipUpdatedV1
from service.actions.replay_events import Past, replay_events
from service.cli.directory import existing_company, existing_connection, in_transaction
from service.cli.tracing import traced_command
from service.clients.broker import Publisher
from service.clients.events import listening_to_events
from service.clients.inbound import InboundPublisher
from service.domain.change import SOURCE_FIELDS
from service.domain.errors import RollcallError
from service.settings import load_settings
from service.store.database import Database
from service.telemetry import names
from service.telemetry.tracing import SpanKind

__all__ = ["add_to"]

events = typer.Typer(no_args_is_help=True, help="What leaves Rollcall.")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLOURS: Final = {
    "active": "green",
    "grace": "yellow",
    "suspended": "yellow",
    "expired": "red",
    "removed": "red",
    "pending": "cyan",
}


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(publish)
    app.add_typer(events, name="events")


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("must be a date or a time such as 2026-11-01T08:00:00Z") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def publish(
    connection: Annotated[str, typer.Argument(help="The connection's id, or its name where that is unique.")],
    external_id: Annotated[str, typer.Argument(help="The member's key at its source.")],
    remove: Annotated[bool, typer.Option("--remove", help="The member has left.")] = False,
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="name=Ada, expiresAt=2027-01-01T00:00:00Z, metadata={…}; empty: null."),
    ] = None,
    version: Annotated[int | None, typer.Option(help="Grows per member at its source; default: now, in microseconds.")] = None,
) -> None:
    """Publish one member change by hand, as its source would."""
    settings = load_settings()
    row = in_transaction(lambda tx: existing_connection(tx, connection))
    now = datetime.now(UTC)
    body: dict[str, Any] = {
        "companyId": str(row.company_id),
        "connectionId": str(row.id),
        "externalId": external_id,
        "action": "remove" if remove else "upsert",
        "version": version if version is not None else (now - _EPOCH) // timedelta(microseconds=1),
        "updatedAt": now.isoformat(),
    }
    if not remove:
        body["member"] = dict(_field(pair) for pair in fields or [])
    elif fields:
        raise typer.BadParameter("a removal sets nothing", param_hint="--set")
    try:
        message = MemberChangedV1.from_json(json.dumps(body))
    except ValidationError as error:
        raise RollcallError(describe(error)) from None
    identity = str(uuid7())

    async def send(envelope: Envelope) -> None:
        async with InboundPublisher.connected(settings.rabbitmq_url.get_secret_value()) as publisher:
            await publisher.publish(MEMBER_CHANGED, envelope, message.to_json())

    with traced_command(settings, names.send_span(MEMBER_CHANGED.exchange.name), SpanKind.PRODUCER) as traced:
        traced.note(
            {
                names.MESSAGING_SYSTEM: names.RABBITMQ,
                names.MESSAGING_OPERATION_NAME: names.SEND,
                names.MESSAGING_OPERATION_TYPE: names.SEND,
                names.MESSAGING_DESTINATION_NAME: f"{MEMBER_CHANGED.exchange.name}:{MEMBER_CHANGED.routing_key}",
                names.MESSAGING_MESSAGE_ID: identity,
            }
        )
        asyncio.run(
            send(
                Envelope(
                    id=identity,
                    source="rollcall publish",
                    type=MEMBER_CHANGED.message_type,
                    time=now,
                    traceparent=traced.traceparent,
                )
            )
        )
    typer.echo(identity)


@events.command()
def tail(
    company: Annotated[str | None, typer.Option(help="Only this company's, by name or id.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show events as they leave, from now on."""
    settings = load_settings()
    company_id = in_transaction(lambda tx: existing_company(tx, company)).id if company is not None else None
    console = Console(highlight=False, soft_wrap=True)

    async def follow() -> None:
        left = count
        async with listening_to_events(settings.rabbitmq_url.get_secret_value(), company_id) as arriving:
            async for event in arriving:
                console.out(event.to_json().decode()) if as_json else console.print(_line(event))
                if left is not None and (left := left - 1) == 0:
                    return

    asyncio.run(follow())


@events.command()
def replay(
    since: Annotated[
        datetime | None,
        typer.Option(parser=_instant, metavar="TIME", help="Those since, such as 2026-11-01 or 2026-11-01T08:00:00Z."),
    ] = None,
    member: Annotated[UUID | None, typer.Option(help="Those of this member, by its id.")] = None,
    company: Annotated[str | None, typer.Option(help="Only this company's, by name or id.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many there are.")] = False,
) -> None:
    """Send past events again, under the same ids and marked as replayed: for a subscriber that missed them."""
    if since is None and member is None:
        raise typer.BadParameter("say --since or --member")
    settings = load_settings()
    company_id = in_transaction(lambda tx: existing_company(tx, company)).id if company is not None else None
    publisher = Publisher(settings.rabbitmq_url.get_secret_value(), name="rollcall events replay")

    async def send() -> int:
        db = await Database.connect(
            settings.database_url.get_secret_value(), name="rollcall cli", size=1, behind_pooler=settings.behind_pooler
        )
        try:
            if not dry_run:
                await publisher.connect()
            return await replay_events(db, publisher, Past(since=since, member_id=member, company_id=company_id), dry_run=dry_run)
        finally:
            await publisher.close()
            await db.close()

    count = asyncio.run(send())
    typer.echo(f"{count:,} event{'' if count == 1 else 's'} {'would be ' if dry_run else ''}sent again")


def _line(event: MembershipUpdatedV1) -> str:
    def state(name: str | None) -> str:
        return f"[{_COLOURS[name]}]{name}[/]" if name else "[dim]new[/]"

    return (
        f"[dim]{event.occurred_at:%H:%M:%S.%f}[/] {event.member_id} [bold]v{event.version}[/] "
        f"{state(event.previous_state)} → {state(event.new_state)} [dim]{event.reason_code}  {', '.join(event.changed_fields)}[/]"
    )


def _field(pair: str) -> tuple[str, object]:
    name, separator, value = pair.partition("=")
    known = {"".join([first, *(word.title() for word in rest)]) for first, *rest in (field.split("_") for field in SOURCE_FIELDS)}
    if not separator or name not in known:
        message = f"must be FIELD=VALUE with a FIELD of {', '.join(sorted(known))}"
        raise typer.BadParameter(message, param_hint="--set")
    if not value:
        return name, None
    if name != "metadata":
        return name, value
    try:
        return name, json.loads(value)
    except ValueError:
        raise typer.BadParameter("metadata must be a JSON object", param_hint="--set") from None
