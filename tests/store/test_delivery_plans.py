"""What is due of healthy subscribers is found and claimed at the same cost beside a dead one with 100,000 deliveries."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from deploy.local_stack import create_database, drop_database
from deploy.local_stack.databases import in_thread
from service.store.database import PREFER_INDEXES
from service.store.queries import queries

DELIVERIES, SUBSCRIBERS = queries("deliveries"), queries("subscribers")
COMPANY, DEAD, HEALTHY, ORDERED = UUID(int=1), UUID(int=100), UUID(int=101), UUID(int=102)

# 20 subscribers; of 119,000 pending deliveries the dead one has 100,000, all of them due; of 1,000 each of the others ten are.
# Beside them 50,000 that ended, and 20,000 that wait for their turn behind others of their members.
FILL = """
insert into companies (id, name) values (lpad('1', 32, '0')::uuid, 'Company');
insert into subscribers (id, company_id, name, url, failing_since, state_changed_by, created_by, in_order)
select lpad(to_hex(100 + n), 32, '0')::uuid, lpad('1', 32, '0')::uuid, 'subscriber ' || n, 'https://lists.example',
    case when n = 0 then now() end, 'x', 'x', n = 2
from generate_series(0, 19) n;
insert into deliveries (subscriber_id, member_id, version, in_order, state, due_at, correlation_id)
select lpad(to_hex(100), 32, '0')::uuid, gen_random_uuid(), 1, false, 'pending', now() - n * interval '1 second', 'x'
from generate_series(1, 100000) n;
insert into deliveries (subscriber_id, member_id, version, in_order, state, due_at, correlation_id)
select lpad(to_hex(101 + n % 19), 32, '0')::uuid, lpad(to_hex(n), 32, '0')::uuid, 1, n % 19 = 1, 'pending',
    now() + (n - 190) * interval '1 minute', 'x'
from generate_series(1, 19000) n;
insert into deliveries (subscriber_id, member_id, version, in_order, state, finished_at, correlation_id)
select lpad(to_hex(101 + n % 19), 32, '0')::uuid, gen_random_uuid(), 1, false, 'delivered', now(), 'x'
from generate_series(1, 50000) n;
insert into deliveries (subscriber_id, member_id, version, in_order, state, correlation_id)
select lpad(to_hex(102), 32, '0')::uuid, lpad(to_hex(1 + 19 * (n % 1000)), 32, '0')::uuid, 2 + n / 1000, true, 'waiting', 'x'
from generate_series(0, 19999) n;
analyze;
"""


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
    if "Scan" in plan["Node Type"] and plan.get("Relation Name") == "deliveries":
        yield plan["Node Type"], plan.get("Index Name", "")
    for inner in plan.get("Plans", []):
        yield from scans(inner)


async def explained(connection: Any, sql: str, *given: Any) -> Any:
    ((document,),) = await connection.fetch(f"explain (analyze, buffers, format json) {sql}", *given)
    return json.loads(document)[0]["Plan"]


def pages(plan: Any) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
class TestPlans:
    async def test_who_has_something_due_is_one_look_for_each(self, connection: Any, plans: str) -> None:
        await connection.execute(f"set local plan_cache_mode = {plans}")

        plan = await explained(connection, DELIVERIES["list_due_subscribers"].sql)

        assert plan["Actual Rows"] == 20
        assert {index for _, index in scans(plan)} == {"deliveries_by_due"}
        assert pages(plan) < 200

    async def test_a_claim_reads_what_it_takes(self, connection: Any, plans: str) -> None:
        await connection.execute(f"set local plan_cache_mode = {plans}")
        subscribers = [DEAD, *(UUID(int=101 + number) for number in range(19))]
        slots = [1] + [8] * 19

        plan = await explained(connection, DELIVERIES["claim_deliveries"].sql, subscribers, slots, timedelta(seconds=60))

        assert plan["Actual Rows"] == 1 + 8 * 19
        assert {index for _, index in scans(plan)} == {"deliveries_by_due", "deliveries_pkey"}
        # About twenty for each row that is written, which is in six indexes; the dead one's backlog has thousands.
        assert pages(plan) < 153 * 40

    async def test_who_waits_is_let_go_by_its_members_rows(self, connection: Any, plans: str) -> None:
        await connection.execute(f"set local plan_cache_mode = {plans}")
        members = [UUID(int=1 + 19 * number) for number in range(20)]
        await connection.execute(
            "update deliveries set state = 'delivered', due_at = null, finished_at = now() "
            "where subscriber_id = $1 and member_id = any ($2) and version = 1",
            ORDERED,
            members,
        )

        plan = await explained(connection, DELIVERIES["let_go"].sql, [ORDERED] * 20, members, [None] * 20)

        assert plan["Actual Rows"] == 20
        assert not [way for way, _ in scans(plan) if way == "Seq Scan"]
        assert pages(plan) < 20 * 60

    async def test_new_deliveries_and_their_repeats_cost_the_same(self, connection: Any, plans: str) -> None:
        await connection.execute(f"set local plan_cache_mode = {plans}")
        count = 100
        given = (
            [HEALTHY] * count,
            [uuid4() for _ in range(count)],
            [1] * count,
            [False] * count,
            None,
            ["x"] * count,
            [None] * count,
        )
        for rows in (count, 0):
            plan = await explained(connection, DELIVERIES["insert_deliveries"].sql, *given)
            assert plan["Actual Rows"] == rows
            assert pages(plan) < count * 60

    async def test_what_is_shown_and_measured_counts_no_further_than_it_says(self, connection: Any, plans: str) -> None:
        await connection.execute(f"set local plan_cache_mode = {plans}")
        shown = await explained(connection, SUBSCRIBERS["show_subscriber"].sql, DEAD, COMPANY)
        measured = await explained(connection, DELIVERIES["measure_deliveries"].sql, 1000)
        listed = await explained(connection, DELIVERIES["list_deliveries"].sql, HEALTHY, None, None, 50)

        assert not [way for plan in (shown, measured, listed) for way, _ in scans(plan) if way == "Seq Scan"]
        assert pages(shown) < 1500
        assert pages(measured) < 4500
        assert pages(listed) < 100
