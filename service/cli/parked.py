"""`rollcall parked`: messages that could not be applied, and what to do with them."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeAlias

import typer

from contracts.channels import QueueFamily
from service.clients.amqp_connection import connected
from service.clients.parked import ParkedMessage, ParkedQueue
from service.clients.topology_check import queue_families
from service.domain.errors import RollcallError
from service.settings import load_settings

__all__ = ["add_to"]

parked = typer.Typer(no_args_is_help=True, help="Messages that could not be applied: why, and once more after the cause is mended.")

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION: Final = re.compile(r"(\d{1,6})([smhd])")
_Act: TypeAlias = Callable[[ParkedQueue, Sequence[ParkedMessage]], Awaitable[None]]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(parked, name="parked")


def _duration(text: str) -> timedelta:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise typer.BadParameter("must be a number and s, m, h or d, such as 2h")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Message ids.")]
Queue = Annotated[str | None, typer.Option(help="Only those of this queue, such as rollcall.member-changes.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Only those whose reason holds this text.")]
OlderThan = Annotated[timedelta | None, typer.Option(parser=_duration, metavar="2h", help="Only those parked before that.")]
NewerThan = Annotated[timedelta | None, typer.Option(parser=_duration, metavar="2h", help="Only those parked since.")]
All = Annotated[bool, typer.Option("--all", help="All of them.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@dataclass(frozen=True, slots=True)
class _Selection:
    """Which parked messages are meant: those that fit everything that is given."""

    now: datetime
    ids: frozenset[str] = frozenset()
    reason: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None

    def takes(self, message: ParkedMessage) -> bool:
        """Whether the message is meant; one that does not say when it was parked has no age."""
        if self.ids and message.id not in self.ids:
            return False
        if self.reason is not None and self.reason.casefold() not in message.reason.casefold():
            return False
        if self.older_than is None and self.newer_than is None:
            return True
        if message.parked_at is None:
            return False
        age = self.now - message.parked_at
        return (self.older_than is None or age > self.older_than) and (self.newer_than is None or age <= self.newer_than)


@parked.command("list")
def show_list(
    queue: Queue = None,
    reason: Reason = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Annotated[int, typer.Option(min=0, help="Show so many, and count all.")] = 50,
) -> None:
    """Show what is parked, oldest first, and how many there are for each reason."""
    selection = _Selection(datetime.now(UTC), reason=reason, older_than=older_than, newer_than=newer_than)
    reasons: Counter[tuple[str, str]] = Counter()

    async def look() -> None:
        async with aclosing(_pages(queue)) as pages:
            async for _, page in pages:
                for message in filter(selection.takes, page):
                    reasons[message.queue, message.reason] += 1
                    if reasons.total() <= limit:
                        typer.echo(_line(message, selection.now))

    asyncio.run(look())
    if reasons.total() > limit > 0:
        typer.echo(f"… and {reasons.total() - limit:,} more")
    for (name, why), count in reasons.most_common():
        typer.echo(f"{count:>9,}  {name}  {_printable(why)}")
    typer.echo(f"{reasons.total():>9,}  parked")


@parked.command()
def show(
    message_id: Annotated[str, typer.Argument(metavar="ID")],
    body: Annotated[bool, typer.Option("--body", help="The body too: it is personal data.")] = False,
) -> None:
    """Show one parked message: why, when, how often it was tried, and its headers."""
    selection = _Selection(datetime.now(UTC), ids=frozenset({message_id}))
    found = 0

    async def look() -> None:
        nonlocal found
        async with aclosing(_pages(None)) as pages:
            async for _, page in pages:
                for message in filter(selection.takes, page):
                    found += 1
                    _describe(message)
                    if body:
                        typer.echo("The body is personal data: do not leave it lying about.", err=True)
                        # What is no text, and what a terminal would obey, is shown as its escape.
                        text = message.body.decode(errors="backslashreplace")
                        typer.echo("\n".join(map(_printable, text.splitlines())))

    asyncio.run(look())
    if not found:
        raise RollcallError(_not_found([message_id]))


@dataclass(frozen=True, slots=True)
class _Verb:
    """What can be done with parked messages; one that cannot be undone is asked for also where each is named."""

    name: str
    done: str
    meaning: str
    act: _Act
    undoable: bool


_VERBS: Final = (
    _Verb(
        "replay", "replayed", "Send parked messages to their queue again, under the same id and trace.", ParkedQueue.replay, True
    ),
    _Verb("drop", "dropped", "Delete parked messages for good.", ParkedQueue.drop, False),
)


def _command(verb: _Verb) -> Callable[..., None]:
    """The command of a verb: which messages are meant is said in the same way for all."""

    def command(
        ids: Ids = None,
        queue: Queue = None,
        reason: Reason = None,
        older_than: OlderThan = None,
        newer_than: NewerThan = None,
        everything: All = False,
        yes: Yes = False,
    ) -> None:
        if not (ids or reason or older_than or newer_than or everything):
            raise typer.BadParameter("say which: by id, --reason, --older-than, --newer-than, or --all")
        if everything and ids:
            raise typer.BadParameter("either ids or --all")
        selection = _Selection(datetime.now(UTC), frozenset(ids or ()), reason, older_than, newer_than)
        _do(verb, selection, queue, yes=yes or (verb.undoable and bool(ids)))

    return command


for _verb in _VERBS:
    parked.command(_verb.name, help=_verb.meaning)(_command(_verb))


def _do(verb: _Verb, selection: _Selection, queue: str | None, *, yes: bool) -> None:
    if not yes:
        # Counted first and given back: nobody holds the messages while somebody thinks.
        count = asyncio.run(_count(selection, queue))
        if not count:
            typer.echo("nothing parked fits")
            return
        typer.confirm(f"{verb.name} {count:,} parked message{'s' if count > 1 else ''}?", abort=True)
    else:
        count = None
    found: set[str] = set()
    number = 0

    async def work() -> None:
        nonlocal number
        async with aclosing(_pages(queue)) as pages:
            async for source, page in pages:
                meant = [message for message in page if selection.takes(message)]
                # What was parked after the count lies behind what was counted.
                meant = meant if count is None else meant[: count - number]
                await verb.act(source, meant)
                number += len(meant)
                found.update(message.id for message in meant if message.id in selection.ids)

    try:
        asyncio.run(work())
    finally:
        typer.echo(f"{verb.done} {number:,}")
    if missing := selection.ids - found:
        raise RollcallError(_not_found(sorted(missing)))


async def _count(selection: _Selection, queue: str | None) -> int:
    async with aclosing(_pages(queue)) as pages:
        return sum([sum(map(selection.takes, page)) async for _, page in pages])


async def _pages(queue: str | None) -> AsyncGenerator[tuple[ParkedQueue, list[ParkedMessage]], None]:
    """The pages of one parked queue, or of all, one queue after the other."""
    families = _families(queue)
    async with connected(load_settings().rabbitmq_url.get_secret_value()) as connection:
        for family in families:
            async with ParkedQueue.held(connection, family) as source:
                if source is None:
                    typer.echo(f"{family.parked.name} is not there: no worker has run yet", err=True)
                    continue
                async for page in source.pages():
                    yield source, page
                if source.unread:
                    typer.echo(f"{source.unread:,} more in {family.parked.name} were not looked at", err=True)


def _families(queue: str | None) -> list[QueueFamily]:
    families = queue_families()
    if queue is None:
        return families
    for family in families:
        if queue in (family.main.name, family.parked.name):
            return [family]
    message = f"there is no queue {queue}: {', '.join(family.main.name for family in families)}"
    raise typer.BadParameter(message, param_hint="--queue")


def _line(message: ParkedMessage, now: datetime) -> str:
    at = f"{message.parked_at:%Y-%m-%d %H:%M:%S}" if message.parked_at else "at some time"
    age = _age(now - message.parked_at) if message.parked_at else "?"
    return _printable(f"{message.queue}  {message.id}  {message.type}  {at}  {age}  {message.reason}")


def _describe(message: ParkedMessage) -> None:
    facts = {
        "queue": message.queue,
        "id": message.id,
        "type": message.type,
        "reason": message.reason,
        "parked at": message.parked_at,
        "first error": message.first_error,
        "first failed at": message.first_failed_at,
        "attempts": message.attempts,
        "replays": message.replays,
        "body": f"{len(message.body):,} bytes",
    }
    for name, value in facts.items():
        if value is not None:
            typer.echo(f"{name:16} {_printable(str(value))}")
    for kind, values in (("property", message.properties), ("header", message.headers)):
        for name, value in values.items():
            typer.echo(f"{kind:16} {_printable(f'{name}: {value}')}")


def _not_found(ids: Sequence[str]) -> str:
    return f"not parked: {', '.join(map(_printable, ids))}"


def _age(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _printable(text: str) -> str:
    """Ids and headers are whatever a producer sent: a terminal must not obey them."""
    return "".join(character if character.isprintable() else "�" for character in text)
