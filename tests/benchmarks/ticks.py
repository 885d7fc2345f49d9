"""`python -m tests.benchmarks.ticks`: one tick over many schedules, of which some are due; aim: 1,000 of 100,000 below 300 ms."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Annotated, Any, Final

import asyncpg
import typer
import uvloop
from rich.console import Console

from deploy.local_stack import create_database, drop_database, local_stack
from service.actions.run_due_schedules import Switches, run_due_schedules
from service.settings import given_urls
from service.store.database import Database
from service.store.migrate import migrate

SCHEDULES: Final = 100_000
DUE: Final = 1_000
ROUNDS: Final = 5
AIM_MS: Final = 300
KINDS: Final = ("directory_sync", "expiry")

# Each of a connection of its own, due in the next hour; and as many jobs that have ended.
FILL: Final = """
insert into companies (id, name) values ('00000000-0000-0000-0000-000000000001', 'Company');
insert into connections (id, company_id, name, kind, version_kind, mapped_fields, directory)
select lpad(to_hex(n), 32, '0')::uuid, c.id, 'directory ' || n, 'django', 'none', array['name'], '{}'
from companies c, generate_series(1, $1::integer) n;
insert into schedules (company_id, kind, subject_id, interval_ms, next_run_at)
select company_id, 'directory_sync', id, 3600000, now() + interval '1 day' from connections;
insert into jobs (id, company_id, kind, subject_id, requested_by, correlation_id, state, attempts, result, finished_at)
select gen_random_uuid(), company_id, 'directory_sync', id, 'benchmark', 'benchmark', 'succeeded', 1, '{}', now() from connections;
vacuum analyze schedules;
vacuum analyze jobs;
vacuum analyze connections;
"""
END_JOBS: Final = """
update jobs set state = 'succeeded', resend_at = null, result = '{}', finished_at = now() where state = 'queued'
"""
LET_SOME_BE_DUE: Final = """
update schedules set next_run_at = statement_timestamp() - interval '1 second'
where id in (select id from schedules where next_run_at > now() order by id limit $1)
"""


async def fill(url: str, schedules: int) -> None:
    connection = await asyncpg.connect(url)
    for statement in FILL.split(";\n"):
        if statement.strip():
            await connection.execute(statement, *([schedules] if "$1" in statement else []))
    await connection.close()


async def measure(url: str, due: int) -> dict[str, Any]:
    """The milliseconds of each tick with so many due, of one after the other, and of a tick with nothing due."""
    database = await Database.connect(url, name="benchmark", size=4)
    ticks = []
    for _ in range(ROUNDS):
        async with database.transaction() as tx:
            await tx.execute(END_JOBS)
            await tx.execute(LET_SOME_BE_DUE, due)
        began = time.perf_counter()
        begun = await run_due_schedules(database, KINDS, Switches())
        ticks.append((time.perf_counter() - began) * 1000)
        if len(begun) != due:
            raise RuntimeError(f"{len(begun)} of {due} began")
    began = time.perf_counter()
    if await run_due_schedules(database, KINDS, Switches()):
        raise RuntimeError("something began twice")
    idle = (time.perf_counter() - began) * 1000
    await database.close()
    return {"ticks_ms": ticks, "idle_ms": idle}


def main(
    schedules: Annotated[int, typer.Option(min=10, help="How many there are.")] = SCHEDULES,
    due: Annotated[int, typer.Option(min=1, help="How many of them are due at each tick.")] = DUE,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the raw figures.")] = None,
) -> None:
    """Measure on DATABASE_URL's server, or on one started for it."""
    console = Console(highlight=False, width=120)
    database_url, rabbitmq_url = given_urls()
    with local_stack(lambda line: console.print(line, style="dim"), database_url=database_url, rabbitmq_url=rabbitmq_url) as stack:
        asyncio.run(migrate(stack.database_url))
        url = create_database(stack.database_url, template=stack.database_url)
        try:
            asyncio.run(fill(url, schedules))
            found = uvloop.run(measure(url, due))
        finally:
            drop_database(url)
    ticks = found["ticks_ms"]
    console.print(
        f"{due:,} due of {schedules:,}: median {statistics.median(ticks):.0f} ms, "
        f"{min(ticks):.0f} to {max(ticks):.0f} (aim {AIM_MS}); nothing due: {found['idle_ms']:.1f} ms"
    )
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
