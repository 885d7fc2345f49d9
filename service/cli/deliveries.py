"""Of `rollcall subscribers` what is about deliveries: what was sent, what came of it, and once more."""

from __future__ import annotations

import asyncio
from datetime import datetime
from time import monotonic
from typing import Annotated, Final
from uuid import UUID

import typer
from rich.markup import escape
from rich.table import Table

from service.actions.audit_change import Author
from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.request_notifications import NotEnded, SubscriberInactive, request_replay, request_test, resend
from service.cli.directory import in_transaction
from service.cli.subscribers import Subscriber, existing_subscriber, group, printed
from service.domain.errors import RollcallError
from service.domain.notifications.delivery import DeliveryId, DeliveryState
from service.settings import load_settings
from service.store.database import Database, Tx
from service.store.deliveries import AttemptRow, DeliveryRow, list_attempts, list_deliveries, show_delivery
from service.store.subscribers import SubscriberRow

__all__ = ["add_to"]

_LOOK_SECONDS: Final = 0.2

Delivery = Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="The delivery's number.")]


def add_to(_: typer.Typer) -> None:
    """Add the commands."""
    for command, name in ((send_test, "test"), (show, "deliveries"), (send_again, "resend"), (replay, "replay")):
        group.command(name)(command)


def send_test(
    subscriber: Subscriber,
    wait: Annotated[float, typer.Option(min=0, help="So many seconds for a worker to send it.")] = 15,
) -> None:
    """Send it something about nobody, signed like all else, and say what it answered; exit status 1 where it did not take it."""

    async def ask(tx: Tx) -> tuple[SubscriberRow, DeliveryId]:
        row = await existing_subscriber(tx, subscriber)
        asked = await request_test(tx, Author(row.company_id, "cli"), row.id)
        if isinstance(asked, SubscriberInactive):
            raise _inactive(asked)
        if asked is None:
            raise _removed(subscriber)
        return row, asked

    row, delivery_id = in_transaction(ask)
    attempts = asyncio.run(_tried(row, delivery_id, wait))
    if not attempts:
        message = (
            f"no worker has sent it within {wait:g} s (delivery {delivery_id}); it is sent when one runs: `rollcall run worker`"
        )
        raise RollcallError(message)
    last = attempts[-1]
    said = f"{last.outcome} in {last.duration.total_seconds():.2f} s: {last.error or f'it answers {last.status}'}"
    if last.outcome != "delivered":
        raise RollcallError(said)
    typer.echo(said)


def show(
    subscriber: Subscriber,
    delivery: Annotated[int | None, typer.Argument(metavar="[ID]", min=1, help="One of them, with every attempt.")] = None,
    state: Annotated[DeliveryState | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
) -> None:
    """List what was sent to a subscriber and what is on its way, the newest first; or show one delivery."""
    if delivery is not None:
        _show_one(subscriber, DeliveryId(delivery))
        return

    async def read(tx: Tx) -> list[DeliveryRow]:
        row = await existing_subscriber(tx, subscriber)
        return await list_deliveries(tx, row.id, state=state, limit=limit)

    _print_deliveries(in_transaction(read))


def send_again(subscriber: Subscriber, delivery: Delivery) -> None:
    """Let a delivery that ended begin anew, under the same id."""

    async def write(tx: Tx) -> DeliveryRow | NotEnded | SubscriberInactive | None:
        row = await existing_subscriber(tx, subscriber)
        return await resend(tx, Author(row.company_id, "cli"), row.id, DeliveryId(delivery))

    match in_transaction(write):
        case DeliveryRow():
            typer.echo(f"it is sent once more; `rollcall subscribers deliveries {subscriber} {delivery}` says what comes of it")
        case NotEnded():
            raise RollcallError("it is still on its way")
        case SubscriberInactive() as inactive:
            raise _inactive(inactive)
        case None:
            raise _no_delivery(subscriber, delivery)


def replay(
    subscriber: Subscriber,
    since: Annotated[datetime, typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z"], help="Such as 2026-11-01T00:00:00Z.")],
) -> None:
    """Send it once more all that it wants of what has happened since then; a worker does it, as a job."""

    async def write(tx: Tx) -> object:
        row = await existing_subscriber(tx, subscriber)
        return await request_replay(tx, Author(row.company_id, "cli"), row.id, since)

    match in_transaction(write):
        case Enqueued(job_id=job_id):
            typer.echo(job_id)
            typer.echo(f"How far it is: rollcall jobs show {job_id}", err=True)
        case AlreadyRunning(job_id=job_id):
            message = f"a replay is under way already, as job {job_id}"
            raise RollcallError(message)
        case SubscriberInactive() as inactive:
            raise _inactive(inactive)
        case None:
            raise _removed(subscriber)
        case _:
            raise typer.BadParameter("must be in the past", param_hint="--since")


async def _tried(row: SubscriberRow, delivery_id: DeliveryId, wait: float) -> list[AttemptRow]:
    """The attempts as soon as there is one; none where there is none in time."""
    settings = load_settings()
    url = settings.database_url.get_secret_value()
    db = await Database.connect(url, name="rollcall cli", size=1, behind_pooler=settings.behind_pooler)
    began = monotonic()
    try:
        while True:
            async with db.transaction() as tx:
                found = await list_attempts(tx, delivery_id)
            if found or monotonic() - began >= wait:
                return found
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        await db.close()


def _show_one(subscriber: str, delivery_id: DeliveryId) -> None:
    async def read(tx: Tx) -> tuple[DeliveryRow | None, list[AttemptRow]]:
        row = await existing_subscriber(tx, subscriber)
        return await show_delivery(tx, delivery_id, row.id, row.company_id), await list_attempts(tx, delivery_id)

    found, attempts = in_transaction(read)
    if found is None:
        raise _no_delivery(subscriber, delivery_id)
    _print_deliveries([found])
    table = Table(box=None)
    for name in ("attempt", "at", "seconds", "outcome", "status", "why", "answer"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("attempt", "seconds") else "left")
    for one in attempts:
        answer = " ".join((one.response or "").split())
        table.add_row(
            str(one.number),
            f"{one.started_at:%Y-%m-%d %H:%M:%S}",
            f"{one.duration.total_seconds():.2f}",
            one.outcome,
            "" if one.status is None else str(one.status),
            escape(one.error or ""),
            escape(answer if len(answer) <= 80 else f"{answer[:79]}…"),
        )
    if attempts:
        typer.echo()
        printed(table)


def _print_deliveries(rows: list[DeliveryRow]) -> None:
    table = Table(box=None)
    for name in ("id", "about", "state", "attempts", "next", "written down", "ended", "last"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("id", "attempts") else "left")
    for row in rows:
        table.add_row(
            str(row.id),
            _about(row.member_id, row.version, row.replay_id),
            row.state.value,
            str(row.attempts),
            _next(row),
            f"{row.created_at:%Y-%m-%d %H:%M:%S}",
            "" if row.finished_at is None else f"{row.finished_at:%Y-%m-%d %H:%M:%S}",
            escape(row.last_error or ("" if row.last_status is None else str(row.last_status))),
        )
    printed(table)


def _about(member_id: UUID | None, version: int | None, replay_id: UUID | None) -> str:
    if member_id is None:
        return "a test"
    return f"{member_id} v{version}{', replayed' if replay_id is not None else ''}"


def _next(row: DeliveryRow) -> str:
    if row.claimed_at is not None:
        return "under way"
    return "" if row.due_at is None else f"{row.due_at:%Y-%m-%d %H:%M:%S}"


def _inactive(found: SubscriberInactive) -> RollcallError:
    return RollcallError(f"it is {found.state.value}, so nothing would be sent; `rollcall subscribers resume` calls it again")


def _removed(subscriber: str) -> RollcallError:
    return RollcallError(f"subscriber {subscriber} was removed meanwhile")


def _no_delivery(subscriber: str, delivery_id: int) -> RollcallError:
    return RollcallError(f"there is no delivery {delivery_id}; `rollcall subscribers deliveries {subscriber}` shows them")
