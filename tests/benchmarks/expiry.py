"""`python -m tests.benchmarks.expiry`: memberships that end, among a million, beside set-based SQL that does the same.

The job's own function in this process, with audit and events; the floor is one statement without decisions, guards or contracts.
"""

from __future__ import annotations

import asyncio
import json
import resource
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import uuid4

import asyncpg
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

MEMBERS: Final = 1_000_000
EXPIRED: Final = 50_000
AIM: Final = 15_000

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


async def one_pass(url: str) -> dict[str, Any]:
    """The seconds, those of CPU of this process, and what the pass counted."""
    database = await Database.connect(url, name="benchmark", size=8)
    options = JobOptions()
    async with database.transaction() as tx:
        asked = await enqueue_job(tx, kind=EXPIRY, company_id=None, subject_id=None, requested_by="benchmark")
    if not isinstance(asked, Enqueued) or (claimed := await claim_job(database, asked.job_id, uuid4(), options.lease)) is None:
        raise RuntimeError("somebody else has the job")
    began, cpu = time.perf_counter(), time.process_time()
    await run_job(database, claimed, JobKind(partial(expire_memberships, database, default_grace_days=0)), options=options)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    async with database.transaction() as tx:
        row = await find_job(tx, asked.job_id)
    await database.close()
    if row is None or row.state != "succeeded" or row.result is None:
        raise RuntimeError(f"the pass failed: {row}")
    return {"seconds": seconds, "cpu": cpu, "applied": row.result["applied"]}


async def floor(url: str) -> float:
    connection = await asyncpg.connect(url)
    began = time.perf_counter()
    await connection.execute(FLOOR)
    seconds = time.perf_counter() - began
    await connection.close()
    return seconds


async def measure(url: str, expired: int) -> dict[str, Any]:
    """A pass with all of them due, and one with nothing to do."""
    found = {"expiry": await one_pass(url), "nothing due": await one_pass(url)}
    if found["expiry"]["applied"] != expired or found["nothing due"]["applied"]:
        raise RuntimeError(f"not what was due: {found}")
    return {**found, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main(
    members: Annotated[int, typer.Option(min=100, help="How many there are.")] = MEMBERS,
    expired: Annotated[int, typer.Option(min=1, help="How many of them have ended.")] = EXPIRED,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the raw figures.")] = None,
) -> None:
    """Measure on DATABASE_URL's server, or on one started for it."""
    console = Console(highlight=False, width=120)
    database_url, rabbitmq_url = given_urls()
    with local_stack(lambda line: console.print(line, style="dim"), database_url=database_url, rabbitmq_url=rabbitmq_url) as stack:
        asyncio.run(migrate(stack.database_url))
        url = create_database(stack.database_url, template=stack.database_url)
        try:
            asyncio.run(fill(url, members, expired))
            copy = create_database(url, template=url)
            try:
                bare = asyncio.run(floor(copy))
            finally:
                drop_database(copy)
            found = uvloop.run(measure(url, expired))
        finally:
            drop_database(url)
    rate = expired / found["expiry"]["seconds"]
    console.print(f"{expired:,} of {members:,} ended: {found['expiry']['seconds']:.2f} s, {rate:,.0f} a second (aim {AIM:,})")
    console.print(f"of it CPU of the process {found['expiry']['cpu']:.2f} s; peak memory {found['peak_mb']:.0f} MB")
    console.print(f"nothing due: {found['nothing due']['seconds'] * 1000:.0f} ms")
    console.print(f"one bare statement: {bare:.2f} s, {expired / bare:,.0f} a second")
    if json_file is not None:
        json_file.write_text(json.dumps({**found, "floor": bare, "rate": rate}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
