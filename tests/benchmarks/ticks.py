"""`python -m tests.benchmarks.ticks`: one tick over many schedules, of which some are due; aim: 1,000 of 100,000 below 300 ms.

By turns with one statement that writes the same rows, without a page, a look at what keeps a schedule from running, or a contract.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final

import asyncpg
import structlog
import typer
import uvloop
from rich.console import Console

from deploy.local_stack import create_database, drop_database, local_stack
from service.actions.run_due_schedules import Switches, run_due_schedules
from service.settings import given_urls
from service.store.database import Database
from service.store.migrate import migrate
from tests.benchmarks.clock_report import PAGE, Bench, Took, peak_mb, setting_of
from tests.benchmarks.server_time import ServerTime

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
FLOOR: Final = """
with due as (
    select id, company_id, kind, subject_id, next_run_at from schedules
    where enabled and next_run_at <= statement_timestamp()
    order by next_run_at
    limit $1
    for update skip locked
), advanced as (
    update schedules s set
        last_run_at = statement_timestamp(), next_run_at = s.next_run_at + s.interval_ms * interval '1 millisecond'
    from due
    where s.id = due.id
), queued as (
    insert into jobs (id, company_id, kind, subject_id, schedule_id, slot, requested_by, correlation_id, state, resend_at)
    select gen_random_uuid(), company_id, kind, subject_id, id, next_run_at, 'benchmark', 'benchmark', 'queued', now() from due
    returning id, kind
)
insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at)
select id, 'rollcall.commands', 'job.' || kind, 'JOB_REQUESTED', id::text, 'benchmark',
    jsonb_build_object('ce-id', id, 'ce-type', 'JOB_REQUESTED', 'ce-specversion', '1.0'),
    jsonb_build_object('jobId', id, 'kind', kind)::text, now()
from queued
"""


async def fill(url: str, schedules: int) -> None:
    connection = await asyncpg.connect(url)
    for statement in FILL.split(";\n"):
        if statement.strip():
            await connection.execute(statement, *([schedules] if "$1" in statement else []))
    await connection.close()


async def measure(url: str, due: int, rounds: int) -> tuple[list[Took], list[Took], list[float]]:
    """Ticks with so many due, bare statements with as many, and ticks with nothing due, by turns."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    database = await Database.connect(url, name="benchmark", size=4)
    connection: Any = await asyncpg.connect(url)
    watching: Any = await asyncpg.connect(url)
    server = ServerTime(watching)

    async def tick() -> int:
        return len(await run_due_schedules(database, KINDS, Switches()))

    async def bare() -> int:
        return int((await connection.execute(FLOOR, due)).split()[-1])

    async def took(work: Callable[[], Awaitable[int]], expected: int) -> Took:
        worked = await server.read()
        began, cpu = time.perf_counter(), time.process_time()
        begun = await work()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        after = await server.read()
        if begun != expected:
            message = f"{begun} of {expected} began"
            raise RuntimeError(message)
        return Took(seconds, cpu, None if worked is None or after is None else after - worked)

    ticks, bares, idle = [], [], []
    for number in range(rounds + 1):
        for contender in ("bare", "rollcall") if number % 2 else ("rollcall", "bare"):
            async with database.transaction() as tx:
                await tx.execute(END_JOBS)
                await tx.execute(LET_SOME_BE_DUE, due)
            found = await took(bare if contender == "bare" else tick, due)
            idle_took = await took(tick, 0)
            # The first round reads what the others find in memory.
            if number:
                (bares if contender == "bare" else ticks).append(found)
                idle.append(idle_took.seconds)
    await watching.close()
    await connection.close()
    await database.close()
    return ticks, bares, idle


def main(
    schedules: Annotated[int, typer.Option(min=10, help="How many there are.")] = SCHEDULES,
    due: Annotated[int, typer.Option(min=1, help="How many of them are due at each tick.")] = DUE,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often both are measured.")] = ROUNDS,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the raw figures.")] = None,
    write_docs: Annotated[bool, typer.Option("--write-docs", help="Put the figures into docs/benchmarks.md.")] = False,
) -> None:
    """Measure on DATABASE_URL's server, or on one started for it."""
    console = Console(highlight=False, width=140)
    database_url, rabbitmq_url = given_urls()
    with local_stack(lambda line: console.print(line, style="dim"), database_url=database_url, rabbitmq_url=rabbitmq_url) as stack:
        asyncio.run(migrate(stack.database_url))
        url = create_database(stack.database_url, template=stack.database_url)
        try:
            setting = asyncio.run(setting_of(url))
            asyncio.run(fill(url, schedules))
            ticks, bares, idle = uvloop.run(measure(url, due, rounds))
        finally:
            drop_database(url)
    bench = Bench(
        name="ticks",
        what="schedules are due",
        items=due,
        among=schedules,
        setting=setting,
        rollcall=ticks,
        bare=bares,
        idle=idle,
        peak_mb=peak_mb(),
    )
    for line in bench.lines():
        console.print(line, markup=False)
    console.print(f"Aim: {AIM_MS} ms; it took {bench.seconds * 1000:.0f}")
    if json_file is not None:
        json_file.write_text(json.dumps(bench.to_json(), indent=2), encoding="utf-8")
    if write_docs:
        bench.write_into(PAGE)


if __name__ == "__main__":
    typer.run(main)
