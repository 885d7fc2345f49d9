"""`python -m tests.benchmarks.expiry`: memberships that end, among a million, beside set-based SQL that does the same.

The job's own function, with audit and events; the floor is one statement without decisions, guards or contracts. Each round has
both, each in a copy of one filled database; the pass is a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import uuid4

import asyncpg
import structlog
import typer
import uvloop
from rich.console import Console

from deploy.local_stack import create_database, drop_database, local_stack
from service.actions.enqueue_job import Enqueued, enqueue_job
from service.actions.expire_memberships import EXPIRY, expire_memberships
from service.actions.run_job import JobOptions, claim_job, run_job
from service.actions.running_job import JobKind
from service.settings import given_urls
from service.store.database import Database
from service.store.jobs import find_job
from service.store.migrate import migrate
from tests.benchmarks.clock_report import PAGE, Bench, Took, peak_mb, setting_of
from tests.benchmarks.server_time import ServerTime

MEMBERS: Final = 1_000_000
EXPIRED: Final = 50_000
ROUNDS: Final = 3
AIM: Final = 15_000
ROOT: Final = Path(__file__).resolve().parents[2]

# Every so-and-so-many-th has ended; the others end within the next year, each at another time.
FILL: Final = """
insert into companies (id, name) values ('00000000-0000-0000-0000-000000000001', 'Company');
insert into members (id, company_id, name, upstream_state, state, version, plan, expires_at)
select gen_random_uuid(), '00000000-0000-0000-0000-000000000001', 'Member ' || n, 'active', 'active', 1, 'basic',
    timestamptz '{now}'
        + case when n % ({members} / {expired}) = 0 then -1 else 1 end * (interval '1 day' + n * interval '30 seconds')
from generate_series(1, {members}) n;
insert into member_events (
    member_id, version, company_id, occurred_at, reason_code, new_state, changed_fields, before, after, actor, correlation_id
)
select id, 1, company_id, now(), 'ADMIN', 'active', '{{}}', '{{}}', '{{}}', 'benchmark', 'benchmark' from members;
vacuum analyze members;
"""
FLOOR: Final = """
with ended as (
    update members set state = 'expired', version = version + 1 where state = 'active' and expires_at < now()
    returning id, version, company_id, plan, expires_at
), audited as (
    insert into member_events (
        member_id, version, company_id, occurred_at, reason_code, previous_state, new_state, changed_fields, plan, expires_at,
        before, after, actor, correlation_id
    )
    select id, version, company_id, now(), 'EXPIRY_RECONCILIATION', 'active', 'expired', array['state'], plan, expires_at,
        '{"state": "active"}', '{"state": "expired"}', 'benchmark', 'benchmark'
    from ended
)
insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at)
select id, 'rollcall.events', 'membership.updated.' || company_id, 'MEMBERSHIP_UPDATED', id || ':' || version, 'benchmark',
    jsonb_build_object('ce-id', id || ':' || version, 'ce-type', 'MEMBERSHIP_UPDATED', 'ce-specversion', '1.0'),
    jsonb_build_object('memberId', id, 'companyId', company_id, 'newState', 'expired', 'version', version)::text, now()
from ended
"""


async def fill(url: str, members: int, expired: int) -> None:
    connection = await asyncpg.connect(url)
    for statement in FILL.format(now=datetime.now(UTC).isoformat(), members=members, expired=expired).split(";\n"):
        if statement.strip():
            await connection.execute(statement)
    await connection.close()


async def one_pass(url: str) -> tuple[Took, int]:
    """What a pass took, and how many members it found."""
    database: Any = await Database.connect(url, name="benchmark", size=8)
    watching: Any = await asyncpg.connect(url)
    server, options = ServerTime(watching), JobOptions()
    async with database.transaction() as tx:
        asked = await enqueue_job(tx, kind=EXPIRY, company_id=None, subject_id=None, requested_by="benchmark")
    if not isinstance(asked, Enqueued) or (claimed := await claim_job(database, asked.job_id, uuid4(), options.lease)) is None:
        raise RuntimeError("somebody else has the job")
    worked = await server.read()
    began, cpu = time.perf_counter(), time.process_time()
    await run_job(database, claimed, JobKind(partial(expire_memberships, database, default_grace_days=0)), options=options)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    after = await server.read()
    async with database.transaction() as tx:
        row = await find_job(tx, asked.job_id)
    await watching.close()
    await database.close()
    if row is None or row.state != "succeeded" or row.result is None:
        message = f"the pass failed: {row}"
        raise RuntimeError(message)
    return Took(seconds, cpu, None if worked is None or after is None else after - worked), row.result["applied"]


async def bare(url: str) -> Took:
    """What the statement took."""
    connection: Any = await asyncpg.connect(url)
    watching: Any = await asyncpg.connect(url)
    server = ServerTime(watching)
    worked = await server.read()
    began, cpu = time.perf_counter(), time.process_time()
    await connection.execute(FLOOR)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    after = await server.read()
    await watching.close()
    await connection.close()
    return Took(seconds, cpu, None if worked is None or after is None else after - worked)


async def passes(url: str, expired: int) -> dict[str, Any]:
    """A pass with all of them due, and one with nothing to do."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    (took, applied), (idle, again) = await one_pass(url), await one_pass(url)
    if applied != expired or again:
        message = f"{applied} of {expired} ended, and then {again}"
        raise RuntimeError(message)
    return {"took": [took.seconds, took.cpu, took.server_cpu], "idle": idle.seconds, "peak_mb": peak_mb()}


def measured(template: str, expired: int) -> dict[str, Any]:
    """The passes, in a process and a database of their own."""
    url = create_database(template, template=template)
    command = [sys.executable, "-m", "tests.benchmarks.expiry", "--one", url, "--expired", str(expired)]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ})
    finally:
        drop_database(url)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured_bare(template: str) -> Took:
    """The statement, in a database of its own."""
    url = create_database(template, template=template)
    try:
        return asyncio.run(bare(url))
    finally:
        drop_database(url)


def main(
    members: Annotated[int, typer.Option(min=100, help="How many there are.")] = MEMBERS,
    expired: Annotated[int, typer.Option(min=1, help="How many of them have ended.")] = EXPIRED,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often both are measured.")] = ROUNDS,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the raw figures.")] = None,
    write_docs: Annotated[bool, typer.Option("--write-docs", help="Put the figures into docs/benchmarks.md.")] = False,
    one: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure on DATABASE_URL's server, or on one started for it."""
    if one is not None:
        print(json.dumps(uvloop.run(passes(one, expired))))
        return
    console = Console(highlight=False, width=140)
    database_url, rabbitmq_url = given_urls()
    with local_stack(lambda line: console.print(line, style="dim"), database_url=database_url, rabbitmq_url=rabbitmq_url) as stack:
        asyncio.run(migrate(stack.database_url))
        url = create_database(stack.database_url, template=stack.database_url)
        try:
            setting = asyncio.run(setting_of(url))
            asyncio.run(fill(url, members, expired))
            ours, bares = [], []
            for number in range(rounds):
                # Who comes first has the disk as the filling left it: in turn.
                for contender in ("bare", "rollcall") if number % 2 else ("rollcall", "bare"):
                    if contender == "bare":
                        bares.append(measured_bare(url))
                    else:
                        ours.append(measured(url, expired))
        finally:
            drop_database(url)
    bench = Bench(
        name="expiry",
        what="members have ended",
        items=expired,
        among=members,
        setting=setting,
        rollcall=[Took(*found["took"]) for found in ours],
        bare=bares,
        idle=[found["idle"] for found in ours],
        peak_mb=max(found["peak_mb"] for found in ours),
    )
    for line in bench.lines():
        console.print(line, markup=False)
    console.print(f"Aim: {AIM:,} members a second")
    if json_file is not None:
        json_file.write_text(json.dumps(bench.to_json(), indent=2), encoding="utf-8")
    if write_docs:
        bench.write_into(PAGE)


if __name__ == "__main__":
    typer.run(main)
