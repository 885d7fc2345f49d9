"""`python -m tests.benchmarks.sync`: the sync of a directory, beside a bare COPY with set-based SQL, and beside row by row.

Each contender at each size is a process of its own on a database of its own, one after the other.
Row by row is left out above 10,000 members: it would take hours.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any, Final

import asyncpg
import structlog
import typer
import uvloop
from rich.console import Console

from deploy.local_stack import create_database, drop_database, local_stack
from service.settings import given_urls
from service.store.migrate import migrate
from tests.benchmarks.server_time import ServerTime
from tests.benchmarks.sync_contenders import rollcall, rollcall_over_http, row_by_row
from tests.benchmarks.sync_floors import bare, with_books
from tests.benchmarks.sync_people import STEPS
from tests.benchmarks.sync_report import (
    BARE,
    OVER_HTTP,
    ROLLCALL,
    ROW_BY_ROW,
    WITH_BOOKS,
    Figures,
    Measured,
    SyncReport,
    print_size,
    told,
    write_into,
)
from tests.directory_rig import ROOT

SIZES: Final = (100, 1_000, 10_000, 100_000)
MILLION: Final = 1_000_000
MOST_ROW_BY_ROW: Final = 10_000
PAGE: Final = ROOT / "docs" / "benchmarks.md"

CONTENDERS: Final[dict[str, Callable[[str, int], AsyncIterator[None]]]] = {
    ROLLCALL: rollcall,
    BARE: bare,
    WITH_BOOKS: with_books,
    OVER_HTTP: rollcall_over_http,
    ROW_BY_ROW: row_by_row,
}


async def one(name: str, url: str, size: int) -> Measured:
    """The time of each step, by the clock and by both CPUs, and the most memory that the process ever had."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    watching: Any = await asyncpg.connect(url)
    server = ServerTime(watching)
    found: dict[str, Figures] = {}
    steps = CONTENDERS[name](url, size)
    for step in STEPS:
        worked = await server.read()
        began, cpu = time.perf_counter(), time.process_time()
        await anext(steps)
        seconds, own = time.perf_counter() - began, time.process_time() - cpu
        after = await server.read()
        found[step] = Figures(seconds, own, None if worked is None or after is None else after - worked)
    await anext(steps, None)
    await watching.close()
    return Measured(found, _peak_mb())


def _peak_mb() -> float:
    """Of this process: what getrusage calls so may be that of the process which started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def measured(template: str, name: str, size: int) -> Measured:
    """In a process and a database of its own."""
    url = create_database(template, template=template)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.sync", "--one", name, "--url", url, "--members", str(size)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    finally:
        drop_database(url)
    return Measured.from_json(json.loads(done.stdout.splitlines()[-1]))


async def _setting(database_url: str) -> dict[str, str]:
    database: Any = await asyncpg.connect(database_url)
    postgres = (await database.fetchval("show server_version")).split()[0]
    await database.close()
    return {
        "cores": str(os.cpu_count()),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        "PostgreSQL": postgres,
    }


def main(
    members: Annotated[list[int] | None, typer.Option(help="How many; more than once for several sizes.")] = None,
    million: Annotated[bool, typer.Option("--million", help="Also a million: about a quarter of an hour.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the raw figures.")] = None,
    write_docs: Annotated[bool, typer.Option("--write-docs", help="Put the figures into docs/benchmarks.md.")] = False,
    contender: Annotated[str | None, typer.Option("--one", hidden=True)] = None,
    url: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure at 100 to 100,000 members, on DATABASE_URL's server or on one started for it."""
    if contender is not None and url is not None and members:
        print(json.dumps(uvloop.run(one(contender, url, members[0])).to_json()))
        return
    console = Console(highlight=False, width=140)
    database_url, rabbitmq_url = given_urls()
    with local_stack(lambda line: console.print(line, style="dim"), database_url=database_url, rabbitmq_url=rabbitmq_url) as stack:
        asyncio.run(migrate(stack.database_url))
        report = SyncReport(asyncio.run(_setting(stack.database_url)), {})
        for size in [*(members or SIZES), *((MILLION,) if million else ())]:
            of_size = report.sizes.setdefault(size, {})
            for name in CONTENDERS:
                if name != ROW_BY_ROW or size <= MOST_ROW_BY_ROW:
                    of_size[name] = measured(stack.database_url, name, size)
                    console.print(told(size, name, of_size[name]), style="dim")
                    # As far as it is: a million takes a while, and not every machine has it.
                    if json_file is not None:
                        json_file.write_text(json.dumps(report.to_json(), indent=2), encoding="utf-8")
            print_size(size, of_size, console)
    if write_docs:
        write_into(PAGE, report)


if __name__ == "__main__":
    typer.run(main)
