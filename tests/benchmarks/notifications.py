"""`python -m tests.benchmarks.notifications`: ten healthy subscribers alone, and beside five dead and five slow; aim: 1.3 times."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import asyncpg
import typer
import uvloop
from rich.console import Console

from deploy.local_stack import create_database, drop_database, local_stack
from service.actions.enqueue_deliveries import enqueue_deliveries
from service.domain.notifications.slots import Slots
from service.entrypoints.loops.notifier import NotifierOptions
from service.settings import given_urls
from service.store.database import Database
from service.store.member_events import list_events_since
from service.store.migrate import migrate
from service.translation import to_told
from tests.benchmarks.rounds import turns
from tests.notification_rig import notifying

EVENTS: Final = 1_000
ROUNDS: Final = 5
HEALTHY: Final = 10
AIM: Final = 1.3
CONTENDERS: Final = ("alone", "beside")
# Slow ones answer well, and late; of the dead ones three take the connection and never answer, two refuse it.
SLOW_SECONDS: Final = 5.0
OTHERS: Final = ("slow",) * 5 + ("hangs",) * 3 + ("refuses",) * 2
_BATCH: Final = 500
_WITHIN: Final = 600

FILL: Final = """
insert into companies (id, name) values ('00000000-0000-0000-0000-000000000001', 'Company');
insert into secret_grants (company_id, reference) select id, 'env:ROLLCALL_SECRET_NOTIFICATIONS' from companies;
insert into members (id, company_id, name, upstream_state, state, version)
select gen_random_uuid(), id, 'Member', 'active', 'active', 1 from companies, generate_series(1, $1::integer);
insert into member_events
    (member_id, version, company_id, occurred_at, reason_code, new_state, changed_fields, before, after, actor, correlation_id)
select id, 1, company_id, now(), 'UPSTREAM_CHANGE', 'active', '{name}', '{}', '{}', 'benchmark', 'benchmark' from members
"""
SUBSCRIBE: Final = """
with new as (
    insert into subscribers (id, company_id, name, url, state_changed_by, created_by)
    select gen_random_uuid(), id, $1, $2, 'benchmark', 'benchmark' from companies
    returning id, company_id
)
insert into subscriber_secrets (subscriber_id, company_id, reference)
select id, company_id, 'env:ROLLCALL_SECRET_NOTIFICATIONS' from new
"""
LEFT: Final = """
select count(*) from deliveries d join subscribers s on s.id = d.subscriber_id
where s.name like 'healthy%' and d.state <> 'delivered'
"""
LAST: Final = """
select max(finished_at) from deliveries d join subscribers s on s.id = d.subscriber_id where s.name like 'healthy%'
"""


async def serve() -> None:
    """Answer by the path, until killed: in a process of its own, so that it takes no time of the notifier's."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                if b" /slow" in head:
                    await asyncio.sleep(SLOW_SECONDS)
                elif b" /hangs" in head:
                    await asyncio.sleep(3600)
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


@asynccontextmanager
async def receivers() -> AsyncIterator[int]:
    """The port of a receiver of all kinds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.notifications", "--serve", stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def measure_one(url: str, contender: str, events: int) -> dict[str, float]:
    """Seconds, of the wall and of this process's processor, until the healthy ones have everything; in a database of its own."""
    connection = await asyncpg.connect(url)
    for statement in FILL.split(";\n"):
        await connection.execute(statement, *([events] if "$1" in statement else []))
    async with receivers() as port:
        subscribers = [("healthy", port)] * HEALTHY
        if contender == "beside":
            subscribers += [(kind, 1 if kind == "refuses" else port) for kind in OTHERS]
        for number, (kind, at) in enumerate(subscribers):
            await connection.execute(SUBSCRIBE, f"{kind} {number}", f"http://127.0.0.1:{at}/{kind}/{number}")
        await connection.execute("analyze")
        database = await Database.connect(url, name="benchmark", size=8)
        async with database.transaction() as tx:
            now = await tx.fetchval("select clock_timestamp()")
            page = await list_events_since(tx, 0, now - timedelta(days=1), now, None, events)
            told = [to_told(event) for event in page.events]
        async with notifying(database, NotifierOptions(slots=Slots(), stop_within=timedelta())) as notifier:
            began, processor = await connection.fetchval("select clock_timestamp()"), time.process_time()
            for start in range(0, events, _BATCH):
                await enqueue_deliveries(database, told[start : start + _BATCH])
                notifier.wake()
            async with asyncio.timeout(_WITHIN):
                while await connection.fetchval(LEFT):
                    await asyncio.sleep(0.1)
            processor = time.process_time() - processor
        ended = await connection.fetchval(LAST)
        others = await connection.fetchval("select count(*) from deliveries where state <> 'delivered'")
        await database.close()
    await connection.close()
    if contender == "beside" and not others:
        raise RuntimeError("nobody was slow or dead")
    return {"seconds": (ended - began).total_seconds(), "processor_seconds": processor}


async def measure(server_url: str, template: str, events: int, rounds: int) -> dict[str, Any]:
    """Both contenders in turns, each round in copies of an empty database."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for _, name in turns(CONTENDERS, rounds):
        url = create_database(server_url, template=template)
        try:
            found[name].append(await measure_one(url, name, events))
        finally:
            drop_database(url)
    return {"events": events, "rounds": found}


def show(console: Console, figures: dict[str, Any]) -> None:
    """The medians, and what they mean."""
    rounds = figures["rounds"]
    alone, beside = ([one["seconds"] for one in rounds[name]] for name in CONTENDERS)
    processor = [statistics.median(one["processor_seconds"] for one in rounds[name]) for name in CONTENDERS]
    ratios = [mine / other for mine, other in zip(beside, alone, strict=True)]
    ratio = statistics.median(beside) / statistics.median(alone)
    notifications = figures["events"] * HEALTHY
    console.print(f"{figures['events']:,} events, ten healthy subscribers, median of {len(alone)} interleaved rounds")
    console.print(
        f"alone:  {statistics.median(alone):.2f} s, {notifications / statistics.median(alone):,.0f} notifications a second"
    )
    console.print(f"beside five slow and five dead: {statistics.median(beside):.2f} s")
    verdict = "met" if ratio <= AIM else "missed"
    console.print(f"{ratio:.2f} times ({min(ratios):.2f} to {max(ratios):.2f}); aim at most {AIM}, {verdict}")
    console.print(f"processor of the notifier: {processor[0]:.2f} s alone, {processor[1]:.2f} s beside")


def main(
    events: Annotated[int, typer.Option(min=10, max=100_000)] = EVENTS,
    rounds: Annotated[int, typer.Option(min=1, max=50)] = ROUNDS,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the raw figures.")] = None,
    serves: Annotated[bool, typer.Option("--serve", hidden=True)] = False,
) -> None:
    """Measure on DATABASE_URL's server, in databases of its own, or on a server started for it."""
    if serves:
        uvloop.run(serve())
        return
    console = Console(highlight=False, soft_wrap=True)
    database_url, rabbitmq_url = given_urls()
    with local_stack(console.print, database_url=database_url, rabbitmq_url=rabbitmq_url) as stack:
        template = create_database(stack.postgres.url)
        try:
            asyncio.run(migrate(template))
            figures = uvloop.run(measure(stack.postgres.url, template, events, rounds))
        finally:
            drop_database(template)
    show(console, figures)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
