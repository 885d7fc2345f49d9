"""What is asked of 100,000 jobs is answered by an index, from a handful of pages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from deploy.local_stack import create_database, drop_database
from deploy.local_stack.databases import in_thread
from service.store.database import PREFER_INDEXES
from service.store.queries import queries

QUERIES = queries("jobs")
# A small company among larger ones.
COMPANY, SUBJECT, SCHEDULE, JOB = UUID(int=10), UUID(int=500), UUID(int=700), UUID(int=50)
SLOT = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2027, 1, 1, tzinfo=UTC)

# 100,000 that have ended and 1,000 that have not, of ten companies; 100 of these are due.
FILL = """
insert into companies (id, name) select lpad(to_hex(n), 32, '0')::uuid, 'Company ' || n from generate_series(1, 10) n;
insert into jobs (
    id, company_id, kind, subject_id, schedule_id, slot, requested_by, correlation_id, state, attempts, result, created_at,
    started_at, finished_at
)
select lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(case when n % 1000 = 0 then 10 else 1 + n % 9 end), 32, '0')::uuid, 'scan',
    lpad(to_hex(n % 1000), 32, '0')::uuid, lpad(to_hex(700), 32, '0')::uuid,
    timestamptz '2026-01-01 00:00Z' + n * interval '1 minute', 'tests', 'run', 'succeeded', 1, '{}',
    now() - n * interval '1 minute', now(), now()
from generate_series(1, 100000) n;
insert into jobs (id, company_id, kind, subject_id, requested_by, correlation_id, state, resend_at)
select lpad(to_hex(200000 + n), 32, '0')::uuid, lpad(to_hex(1 + n % 9), 32, '0')::uuid, 'sync', lpad(to_hex(n), 32, '0')::uuid,
    'tests', 'run', 'queued', now() + (n - 100) * interval '1 hour'
from generate_series(1, 1000) n;
analyze;
"""

STATEMENTS: dict[str, tuple[list[Any], str]] = {
    "lock_due_jobs": ([100], "jobs_by_due"),
    "lock_job": ([JOB, None], "jobs_pkey"),
    "claim_job": ([JOB, JOB, timedelta(seconds=30)], "jobs_pkey"),
    "renew_job": ([JOB, 0, timedelta(seconds=30), None], "jobs_pkey"),
    "hold_job": ([JOB, 0], "jobs_pkey"),
    "find_job": ([JOB, COMPANY], "jobs_pkey"),
    "find_active_job": (["sync", SUBJECT, None, None], "jobs_active"),
    "list_jobs": ([None, None, LATER, JOB, 50], "jobs_by_age"),
    "list_jobs_of_company": ([COMPANY, None, None, LATER, JOB, 50], "jobs_by_company"),
    "list_jobs_of_subject": ([SUBJECT, "scan", None, LATER, JOB, 50], "jobs_by_subject"),
}


async def fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(FILL)
    await connection.close()


@pytest.fixture(scope="module")
def filled(postgres_url: str, migrated_database: str) -> Iterator[str]:
    url = create_database(postgres_url, template=migrated_database)
    try:
        in_thread(lambda: fill(url))
        yield url
    finally:
        drop_database(url)


@pytest.fixture
async def connection(filled: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(filled)
    transaction = connection.transaction()
    await transaction.start()
    for name, value in PREFER_INDEXES.items():
        await connection.execute(f"set local {name} = {value}")
    yield connection
    await transaction.rollback()
    await connection.close()


def scans(plan: Any) -> Iterator[tuple[str, str]]:
    """Each node that reads jobs, with the index by which it does."""
    if "Scan" in plan["Node Type"] and (plan.get("Relation Name") == "jobs" or "Index Name" in plan):
        yield plan["Node Type"], plan.get("Index Name", "")
    for inner in plan.get("Plans", []):
        yield from scans(inner)


async def explained(connection: Any, sql: str, given: list[Any]) -> Any:
    ((document,),) = await connection.fetch(f"explain (analyze, buffers, format json) {sql}", *given)
    return json.loads(document)[0]["Plan"]


@pytest.mark.parametrize("name", STATEMENTS)
@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
async def test_a_question_is_answered_by_its_index(connection: Any, name: str, plans: str) -> None:
    given, index = STATEMENTS[name]
    await connection.execute(f"set local plan_cache_mode = {plans}")

    plan = await explained(connection, QUERIES[name].sql, given)

    ways = list(scans(plan))
    # A plan for any company expects one of average size, of which the newest of all soon show a page.
    may_be = {index, "jobs_by_age"} if plans == "force_generic_plan" and name == "list_jobs_of_company" else {index}
    assert may_be & {found for _, found in ways}
    assert not [way for way, _ in ways if way == "Seq Scan"]
    if index in {found for _, found in ways}:
        # The table has about 4,000.
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 700


async def test_a_slot_is_found_among_all_of_its_schedule(connection: Any) -> None:
    plan = await explained(connection, QUERIES["find_active_job"].sql, ["scan", None, SCHEDULE, SLOT])

    assert {"jobs_by_slot"} <= {found for _, found in scans(plan)}
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 50


async def test_what_is_due_costs_the_same_however_many_have_ended(connection: Any) -> None:
    plan = await explained(connection, QUERIES["lock_due_jobs"].sql, [100])

    assert plan["Actual Rows"] == 100
    assert {way for way, _ in scans(plan)} == {"Index Scan"}
