"""`make bench`: Rollcall's worker, relay and edge, measured side by side with what they are compared to."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import aiormq
import asyncpg
import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from deploy.local_stack import StackUnavailable, create_database, drop_database, local_stack
from service.settings import SettingsError, given_urls
from service.store.migrate import migrate
from tests.benchmarks import apply, latency, memory, relay, telemetry, webhooks, whole_way
from tests.benchmarks.report import Report, print_report, to_json, write_into

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
QUICK: Final = 500
# Of the widest table, where there is no terminal that has a width of its own.
WIDTH: Final = 120

Say = Callable[[str], None]


async def measure_all(
    rounds: int, *, database_url: str, rabbitmq_url: str, messages: int, rows: int, events: int, requests: int, soak: int, say: Say
) -> Report:
    """Measure everything, each part in a copy of the database, which must be migrated, empty and without anybody connected."""
    urls = {"rabbitmq_url": rabbitmq_url}
    setting = await _setting(database_url, rabbitmq_url)
    say(f"apply: {messages:,} messages")
    applied = await apply.measure(rounds, database_url=database_url, messages=messages, say=say, **urls)
    say(f"relay: {rows:,} events")
    with _copy(database_url) as own_database:
        relayed = await relay.measure(rounds, database_url=own_database, rows=rows, say=say, **urls)
    say(f"latency: {events:,} events at {latency.RATE} a second")
    with _copy(database_url) as own_database:
        delays = await latency.measure(rounds, database_url=own_database, events=events, say=say, **urls)
    say(f"whole way: {events:,} webhooks at {whole_way.RATE} a second")
    with _copy(database_url) as own_database:
        through = await whole_way.measure(rounds, database_url=own_database, webhooks=events, say=say, **urls)
    say(f"webhooks: {requests:,} requests")
    with _copy(database_url) as own_database:
        taken = await webhooks.measure(rounds, database_url=own_database, requests=requests, say=say, **urls)
    say(f"telemetry: {messages:,} messages")
    costs = await telemetry.measure(rounds, database_url=database_url, messages=messages, say=say, **urls)
    say(f"memory: {soak:,} messages")
    with _copy(database_url) as own_database:
        resident = await memory.measure(database_url=own_database, messages=soak, say=say, **urls)
    return Report(setting, applied, relayed, delays, through, taken, costs, resident)


@contextmanager
def _copy(database_url: str) -> Iterator[str]:
    url = create_database(database_url, template=database_url)
    try:
        yield url
    finally:
        drop_database(url)


async def _setting(database_url: str, rabbitmq_url: str) -> dict[str, str]:
    """What the figures depend on."""
    database = await asyncpg.connect(database_url)
    postgres = (await database.fetchval("show server_version")).split()[0]
    await database.close()
    broker: Any = await aiormq.connect(rabbitmq_url)
    rabbitmq = broker.server_properties["version"]
    await broker.close()
    return {
        "cores": str(os.cpu_count()),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "machine": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "PostgreSQL": postgres,
        "RabbitMQ": str(rabbitmq),
        **{name: version(name) for name in ("faststream", "aio-pika", "asyncpg", "faststream-outbox", "uvicorn", "fastapi")},
    }


def main(
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often each contender is measured.")] = 3,
    messages: Annotated[
        int, typer.Option(min=500, max=100_000, help="Of the apply rounds; the broker gives up on a process stopped for longer.")
    ] = apply.MESSAGES,
    rows: Annotated[int, typer.Option(min=100, max=1_000_000, help="Of the relay rounds.")] = relay.ROWS,
    requests: Annotated[int, typer.Option(min=100, max=100_000, help="Of the webhook rounds.")] = webhooks.REQUESTS,
    soak: Annotated[int, typer.Option(min=1000, max=10_000_000, help="Messages while the memory is watched.")] = memory.MESSAGES,
    quick: Annotated[bool, typer.Option("--quick", help="One small round: whether it runs, not how fast it is.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the raw figures.")] = None,
    write_docs: Annotated[bool, typer.Option("--write-docs", help="Put the figures into docs/benchmarks.md.")] = False,
) -> None:
    """Measure on DATABASE_URL's server, in a database of its own, and in RABBITMQ_URL's vhost, or on servers started for it."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDTH

    def say(line: str) -> None:
        console.print(escape(line), style="dim")

    if quick:
        rounds, messages, rows, requests, soak = 1, QUICK, QUICK, QUICK, 4 * QUICK
    try:
        database_url, rabbitmq_url = given_urls()
        with local_stack(say, database_url=database_url, rabbitmq_url=rabbitmq_url) as stack:
            asyncio.run(migrate(stack.database_url))
            report = uvloop.run(
                measure_all(
                    rounds,
                    database_url=stack.database_url,
                    rabbitmq_url=stack.rabbitmq_url,
                    messages=messages,
                    rows=rows,
                    events=QUICK if quick else latency.EVENTS,
                    requests=requests,
                    soak=soak,
                    say=say,
                )
            )
    except (StackUnavailable, SettingsError) as error:
        console.print(escape(str(error)), style="red")
        raise typer.Exit(1) from None
    print_report(report, console)
    if json_file is not None:
        json_file.write_text(to_json(report), encoding="utf-8")
    if write_docs:
        write_into(PAGE, report)


if __name__ == "__main__":
    typer.run(main)
