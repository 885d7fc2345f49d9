"""What the clock asks of hundreds of thousands of members and schedules is answered by an index, from a handful of pages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from deploy.local_stack import create_database, drop_database
from deploy.local_stack.databases import in_thread
from service.store.database import PREFER_INDEXES
from service.store.queries import queries

MEMBERS, SCHEDULES = queries("due_members"), queries("schedules")
NOW = datetime(2026, 11, 22, tzinfo=UTC)
FIRST, NOBODY = datetime(1, 1, 1, tzinfo=UTC), UUID(int=0)

# Of 200,000 members in 100 companies a twentieth is in grace, of which all but 500 have days to go; 1,000 have ended unnoticed,
# 150,000 will, the rest never. Of 100,000 schedules 1,000 are due.
FILL = """
insert into companies (id, name, grace_days, scan_providers)
select lpad(to_hex(n), 32, '0')::uuid, 'Company ' || n, case when n % 2 = 0 then 30 end, '{"duplicates": {}}'
from generate_series(1, 100) n;
insert into members (id, company_id, name, upstream_state, state, version, plan, expires_at, pending_plan, pending_start)
select lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(1 + n % 100), 32, '0')::uuid, 'Anna', 'active',
    case when n % 20 = 7 then 'grace' else 'active' end, 1, 'basic',
    case
        when n % 20 = 7 and n % 400 = 7 then timestamptz '2026-01-01Z'
        when n % 20 = 7 then timestamptz '2026-11-21Z'
        when n % 200 = 1 then timestamptz '2026-11-22Z' - n * interval '1 minute'
        when n % 4 <> 0 then timestamptz '2026-11-22Z' + n * interval '1 minute'
    end,
    case when n % 100 = 3 then 'gold' end, case when n % 100 = 3 then date '2026-11-22' + n / 1000 end
from generate_series(1, 200000) n;
insert into schedules (company_id, kind, subject_id, interval_ms, next_run_at)
select lpad(to_hex(1 + n % 100), 32, '0')::uuid, 'scan', lpad(to_hex(n), 32, '0')::uuid, 3600000,
    now() + (n - 1000) * interval '1 second'
from generate_series(1, 100000) n;
insert into jobs (id, company_id, kind, subject_id, requested_by, correlation_id, state, attempts, result, finished_at)
select gen_random_uuid(), lpad(to_hex(1 + n % 100), 32, '0')::uuid, 'scan', lpad(to_hex(n), 32, '0')::uuid, 'tests', 'run',
    'succeeded', 1, '{}', now()
from generate_series(1, 50000) n;
vacuum analyze;
"""

QUESTIONS: dict[str, tuple[str, list[Any], str, int]] = {
    "list_ended_memberships": (MEMBERS["list_ended_memberships"].sql, [FIRST, NOBODY, NOW, 1000], "members_by_expiry", 1000),
    "list_ended_graces": (MEMBERS["list_ended_graces"].sql, [FIRST, NOBODY, NOW, 1000, 7, NOBODY], "members_in_grace", 500),
    "list_pending_plans": (MEMBERS["list_pending_plans"].sql, [date.min, NOBODY, NOW.date(), 200], "members_by_pending_start", 10),
    "claim_due_schedules": (SCHEDULES["claim_due_schedules"].sql, [["scan", "expiry"], 500], "schedules_due", 500),
}


async def fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in FILL.split(";\n"):
        if statement.strip():
            await connection.execute(statement)
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


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


async def explained(connection: Any, sql: str, given: list[Any]) -> Any:
    ((document,),) = await connection.fetch(f"explain (analyze, buffers, format json) {sql}", *given)
    return json.loads(document)[0]["Plan"]


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
async def test_what_is_due_is_found_by_its_index_and_nothing_else_is_read(connection: Any, name: str, plans: str) -> None:
    sql, given, index, due = QUESTIONS[name]
    await connection.execute(f"set local plan_cache_mode = {plans}")

    plan = await explained(connection, sql, given)

    assert plan["Actual Rows"] == due
    found = list(nodes(plan))
    assert not [
        node for node in found if node["Node Type"] == "Seq Scan" and node["Relation Name"] not in ("companies", "connections")
    ]
    (scan,) = [node for node in found if node.get("Index Name") == index]
    # Those in grace with days to go, and those that end later, are not even looked at.
    assert scan["Actual Rows"] * scan["Actual Loops"] <= due + scan["Actual Loops"]
    assert scan.get("Rows Removed by Filter", 0) == 0
    # A few for each row of the answer; the tables have thousands.
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 20 * due + 600


async def test_a_page_goes_on_by_the_same_index(connection: Any) -> None:
    sql, given, index, due = QUESTIONS["list_ended_memberships"]
    rows = await connection.fetch(sql, *given[:3], 400)

    plan = await explained(connection, sql, [rows[-1]["expires_at"], rows[-1]["id"], NOW, 1000])

    assert plan["Actual Rows"] == due - 400
    (scan,) = [node for node in nodes(plan) if node.get("Index Name") == index]
    assert scan["Actual Rows"] == due - 400


async def test_a_pass_without_anything_due_reads_next_to_nothing(connection: Any) -> None:
    for name, given in (
        ("list_ended_memberships", [FIRST, NOBODY, datetime(2020, 1, 1, tzinfo=UTC), 1000]),
        ("list_ended_graces", [FIRST, NOBODY, datetime(2020, 1, 1, tzinfo=UTC), 1000, 7, NOBODY]),
        ("list_pending_plans", [date.min, NOBODY, date(2020, 1, 1), 200]),
    ):
        plan = await explained(connection, MEMBERS[name].sql, given)
        assert plan["Actual Rows"] == 0
        # One look for each company, where it depends on the company.
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 500


async def test_what_runs_already_is_not_read_through_for_each_that_is_due(connection: Any) -> None:
    # After the statistics were taken, as at the first page of a great tick: the planner believes that nothing runs.
    await connection.execute(
        "insert into jobs (id, company_id, kind, subject_id, requested_by, correlation_id, state, resend_at) "
        "select gen_random_uuid(), lpad(to_hex(1 + n % 100), 32, '0')::uuid, 'scan', lpad(to_hex(n), 32, '0')::uuid, 'tests', "
        "'run', 'queued', now() from generate_series(20001, 25000) n"
    )
    sql, given, _, due = QUESTIONS["claim_due_schedules"]

    plan = await explained(connection, sql, given)

    assert plan["Actual Rows"] == due
    active = [node for node in nodes(plan) if node.get("Index Name") == "jobs_active"]
    assert active
    assert all("subject_id" in node["Index Cond"] for node in active)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 20 * due + 600
