"""`rollcall doctor`: what is well, what is not, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, NamedTuple

import typer
from rich.console import Console
from rich.text import Text

from service.actions.register_default_directory import DEFAULT_KEY
from service.cli.extension_findings import extension_findings
from service.cli.findings import Finding, Verdict, broken, odd, well
from service.cli.secret_findings import held_secret_findings, secret_findings
from service.cli.webhook_setup import secret_problem
from service.clients.amqp_connection import BROKER_ERRORS, connected
from service.clients.topology_check import QueueState, broker_version, check_topology, queue_families
from service.domain.buckets import BUCKETS
from service.domain.errors import RollcallError, Unavailable
from service.settings import SecretUnavailable, Settings, load_settings, resolve_secret, without_password
from service.store.clock import read_clock
from service.store.database import Database, Tx
from service.store.leases import read_ownership
from service.store.migrate import pending_migrations
from service.store.outbox import list_refusals, read_backlog
from service.store.secret_grants import HeldSecret, list_held_secrets
from service.store.server import read_server_version
from service.store.webhook_secrets import list_webhook_secrets

__all__ = ["add_to"]

_OLDEST_POSTGRES: Final = 15
_OLDEST_RABBITMQ: Final = (3, 10)
_MOST_SKEW: Final = timedelta(seconds=2)
_OLD_BACKLOG: Final = timedelta(minutes=1)
_REASONS: Final = 5


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor() -> None:
    """Check database, broker, queues, outbox, secrets and extensions; exit status 1 when something is broken."""
    settings = load_settings()
    console = Console(highlight=False, soft_wrap=True)

    async def examine() -> bool:
        whole = True
        for check in (_database, _broker):
            async for finding in check(settings):
                sign, colour = finding.verdict.value
                console.print(Text.assemble((sign, colour), f" {finding.about}: {finding.text}"))
                whole = whole and finding.verdict is not Verdict.BROKEN
        return whole

    if not asyncio.run(examine()):
        raise typer.Exit(1)


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    url = settings.database_url.get_secret_value()
    where = without_password(url)
    try:
        db = await Database.connect(url, name="rollcall doctor", size=1, behind_pooler=settings.behind_pooler)
    except RollcallError as error:
        yield broken("database", f"{where}: {error}; start it or correct DATABASE_URL")
        return
    try:
        for about, check in [*_CHECKS, _Check("secrets", partial(_secrets, settings))]:
            try:
                async with db.transaction() as tx:
                    findings = await check(tx)
            except RollcallError as error:
                yield broken(about, f"{where}: {error}")
                return
            for finding in findings:
                yield finding
            if any(finding.about == "migrations" and finding.verdict is Verdict.BROKEN for finding in findings):
                return
        for finding in extension_findings(settings, db):
            yield finding
    finally:
        await db.close()
    if settings.behind_pooler:
        yield await _listening(settings.listen_url.get_secret_value())


async def _listening(url: str) -> Finding:
    where = without_password(url)
    try:
        db = await Database.connect(url, name="rollcall doctor", size=1)
    except RollcallError as error:
        return broken("notifications", f"{where}: {error}; correct DATABASE_LISTEN_URL")
    await db.close()
    return well("notifications", f"{where} answers")


async def _server(tx: Tx) -> list[Finding]:
    version = await read_server_version(tx)
    if version < _OLDEST_POSTGRES:
        return [broken("database", f"PostgreSQL {version} answers; Rollcall needs {_OLDEST_POSTGRES} or newer")]
    return [well("database", f"PostgreSQL {version} answers")]


async def _migrations(tx: Tx) -> list[Finding]:
    if pending := await pending_migrations(tx):
        return [broken("migrations", f"`rollcall migrate` must apply {', '.join(pending)}")]
    return [well("migrations", "all applied")]


async def _clock(tx: Tx) -> list[Finding]:
    before = datetime.now(UTC)
    theirs = await read_clock(tx)
    after = datetime.now(UTC)
    # Whatever the question took on its way is no difference of the clocks.
    skew = max(before - theirs, theirs - after, timedelta())
    if skew > _MOST_SKEW:
        return [odd("clock", f"this host and the database differ by {skew.total_seconds():.1f} s; let both follow a time server")]
    return [well("clock", "this host and the database agree")]


async def _outbox(tx: Tx) -> list[Finding]:
    backlog, ownership = await read_backlog(tx), await read_ownership(tx)
    findings = []
    if not backlog.messages:
        findings.append(well("outbox", "empty"))
    else:
        age = backlog.oldest or timedelta()
        text = f"{backlog.messages:,} events wait, the oldest for {_rounded(age)}"
        late = age > _OLD_BACKLOG
        findings.append(odd("outbox", f"{text}; see below for why") if late else well("outbox", text))
    findings += [
        odd("outbox", f"{one.blocked_keys:,} blocked: {one.error}{_advice(one.error)}") for one in await list_refusals(tx, _REASONS)
    ]
    if not ownership.relays:
        findings.append(odd("relays", "none runs: events stay in the outbox; start `rollcall run relay`"))
    elif ownership.owned < BUCKETS:
        text = f"{BUCKETS - ownership.owned} of {BUCKETS} buckets have no owner; if that lasts, read the relays' logs"
        findings.append(odd("relays", text))
    else:
        findings.append(well("relays", f"{ownership.relays} own all {BUCKETS} buckets"))
    return findings


async def _secrets(settings: Settings, tx: Tx) -> list[Finding]:
    webhooks = secret_findings(await list_webhook_secrets(tx), partial(secret_problem, settings))
    return webhooks + held_secret_findings(await list_held_secrets(tx), partial(_unreadable, settings))


def _unreadable(settings: Settings, secret: HeldSecret) -> str | None:
    if secret.reference == DEFAULT_KEY:
        return None if settings.django_api_key is not None else f"{secret.reference} is not set"
    try:
        resolve_secret(secret.reference, settings.secrets_dir)
    except SecretUnavailable as error:
        return str(error)
    return None


class _Check(NamedTuple):
    about: str
    look: Callable[[Tx], Awaitable[list[Finding]]]


_CHECKS: Final = (
    _Check("database", _server),
    _Check("migrations", _migrations),
    _Check("clock", _clock),
    _Check("outbox", _outbox),
)


def _advice(error: str) -> str:
    if error.startswith("unroutable"):
        return "; bind a queue to rollcall.events for those companies"
    return "; look at the queues that are bound to rollcall.events"


async def _broker(settings: Settings) -> AsyncIterator[Finding]:
    url = settings.rabbitmq_url.get_secret_value()
    where = without_password(url)
    try:
        async with connected(url) as connection:
            yield _version(broker_version(connection))
            queues, missing, different = await check_topology(connection)
    except Unavailable as error:
        yield broken("broker", f"{where}: {error}; start it or correct RABBITMQ_URL")
        return
    except BROKER_ERRORS as error:
        yield broken(
            "broker", f"{where}: it does not let us look ({type(error).__name__}); the user needs configure, write and read"
        )
        return
    if missing:
        yield broken("topology", f"not there: {', '.join(missing)}; a worker declares all as it starts: `rollcall run worker`")
    if different:
        yield broken(
            "topology", f"there with other arguments: {', '.join(different)}; empty and delete them, a worker declares them anew"
        )
    if not missing and not different:
        yield well(
            "topology", "every exchange and queue is as declared; bindings cannot be seen, a worker renews them as it starts"
        )
    for finding in _queues(queues):
        yield finding


def _version(version: str) -> Finding:
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    if len(numbers) < len(_OLDEST_RABBITMQ):
        return odd("broker", f"it answers, as {version}")
    if tuple(numbers) < _OLDEST_RABBITMQ:
        return broken("broker", f"RabbitMQ {version} answers; Rollcall needs {'.'.join(map(str, _OLDEST_RABBITMQ))} or newer")
    return well("broker", f"RabbitMQ {version} answers")


def _queues(queues: dict[str, QueueState]) -> list[Finding]:
    findings = []
    for family in queue_families():
        main, parked = queues.get(family.main.name), queues.get(family.parked.name)
        if main is not None and not main.consumers:
            findings.append(odd(family.main.name, f"{main.messages:,} wait and nobody consumes; start `rollcall run worker`"))
        elif main is not None:
            findings.append(well(family.main.name, f"{main.messages:,} wait, consumers: {main.consumers}"))
        if parked is not None and parked.messages:
            text = f"{parked.messages:,} parked; `rollcall parked list` says why"
            findings.append(odd(family.parked.name, text))
        elif parked is not None:
            findings.append(well(family.parked.name, "empty"))
    return findings


def _rounded(age: timedelta) -> str:
    return str(timedelta(seconds=round(age.total_seconds())))
