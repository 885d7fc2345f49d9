from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from deploy.local_stack import create_database, drop_database

COMPANY, OTHER_COMPANY = "00000000-0000-0000-0000-0000000000c1", "00000000-0000-0000-0000-0000000000c2"
CONNECTION, MEMBER, KEY = ("00000000-0000-0000-0000-0000000000d1", "00000000-0000-0000-0000-0000000000e1", "f1" * 16)

GONE = {"upstream_state": "'removed'", "state": "'removed'", "removed_at": "now()"}

# One valid row of each table; a case names what it changes.
ROWS: dict[str, dict[str, str]] = {
    "companies": {"id": "gen_random_uuid()", "name": "'Another'", "grace_days": "7"},
    "connections": {
        "company_id": f"'{COMPANY}'",
        "name": "'another'",
        "kind": "'stream'",
        "version_kind": "'sequence'",
        "mapped_fields": "array['name', 'plan']",
    },
    "members": {
        "id": "gen_random_uuid()",
        "company_id": f"'{COMPANY}'",
        "connection_id": f"'{CONNECTION}'",
        "external_id": "'new'",
        "name": "'Anna'",
        "upstream_state": "'active'",
        "state": "'active'",
        "version": "1",
    },
    "member_events": {
        "member_id": f"'{MEMBER}'",
        "version": "2",
        "company_id": f"'{COMPANY}'",
        "occurred_at": "now()",
        "reason_code": "'ADMIN'",
        "new_state": "'active'",
        "changed_fields": "array['state']",
        "before": "'{}'",
        "after": "'{}'",
        "actor": "'test'",
        "correlation_id": "'run'",
    },
    "inbox": {"connection_id": f"'{CONNECTION}'", "source": "'tests'", "message_id": "'2'"},
    "outbox": {
        "order_key": f"'{KEY}'",
        "exchange": "'e'",
        "routing_key": "'r'",
        "type": "'t'",
        "message_id": "'m'",
        "correlation_id": "'c'",
        "headers": "'{}'",
        "body": "'{}'",
        "occurred_at": "now()",
    },
    "leases": {"resource": "'another'"},
}

# constraint -> the table and what breaks it
BROKEN: dict[str, tuple[str, dict[str, str]]] = {
    "companies_grace_days_check": ("companies", {"grace_days": "3651"}),
    "companies_name_check": ("companies", {"name": "''"}),
    "companies_name_key": ("companies", {"name": "'Company'"}),
    "companies_pkey": ("companies", {"id": f"'{COMPANY}'"}),
    "connections_company_id_fkey": ("connections", {"company_id": "gen_random_uuid()"}),
    "connections_company_id_name_key": ("connections", {"name": "'first'"}),
    "connections_kind_check": ("connections", {"kind": "'ldap'"}),
    "connections_mapped_fields_check": ("connections", {"mapped_fields": "array['plan']"}),
    "connections_name_check": ("connections", {"name": "''"}),
    "connections_pkey": ("connections", {"id": f"'{CONNECTION}'"}),
    "connections_status_check": ("connections", {"status": "'paused'"}),
    "connections_version_kind_check": ("connections", {"version_kind": "'etag'"}),
    "dates_are_finite": ("members", {"expires_at": "'infinity'"}),
    "hold_is_dated": ("members", {"hold": "'unpaid'"}),
    "key_is_whole": ("members", {"external_id": "null"}),
    "members_by_key": ("members", {"external_id": "'known'"}),
    "members_by_national_id": ("members", {"national_id": "'0101012345'"}),
    "members_company_id_fkey": ("members", {"company_id": "gen_random_uuid()", "connection_id": "null", "external_id": "null"}),
    "members_connection_id_company_id_fkey": ("members", {"company_id": f"'{OTHER_COMPANY}'"}),
    "members_hold_check": ("members", {"hold": "''", "held_at": "now()"}),
    "members_metadata_check": ("members", {"metadata": "'[]'"}),
    "members_name_check": ("members", {"name": "''"}),
    "members_national_id_check": ("members", {"national_id": "'010101-1234'"}),
    "members_pkey": ("members", {"id": f"'{MEMBER}'"}),
    "members_state_check": ("members", {"state": "'gone'"}),
    "members_upstream_state_check": ("members", {"upstream_state": "'grace'"}),
    "members_version_check": (
        "members",
        {"version": "-1", "upstream_state": "'removed'", "state": "'removed'", "removed_at": "now()"},
    ),
    "only_the_removed_are_nameless": ("members", {"name": "null"}),
    "pending_plan_is_dated": ("members", {"pending_plan": "'gold'"}),
    "removal_is_dated": ("members", {"removed_at": "now()"}),
    "removed_is_published": ("members", {"upstream_state": "'removed'", "removed_at": "now()"}),
    "version_zero_is_a_tombstone": ("members", {"version": "0"}),
    "member_events_member_id_fkey": ("member_events", {"member_id": "gen_random_uuid()"}),
    "member_events_member_id_version_key": ("member_events", {"version": "1"}),
    "member_events_pkey": ("member_events", {"id": "1000"}),
    "member_events_reason_code_check": ("member_events", {"reason_code": "'WHIM'"}),
    "member_events_version_check": ("member_events", {"version": "0"}),
    "inbox_pkey": ("inbox", {"message_id": "'1'"}),
    "failure_is_dated": ("outbox", {"attempts": "1", "last_error": "'nack'"}),
    "failure_is_explained": ("outbox", {"attempts": "1", "next_attempt_at": "now()"}),
    "outbox_pkey": ("outbox", {"id": "1000"}),
    "held_until_some_time": ("leases", {"holder": "gen_random_uuid()"}),
    "leases_pkey": ("leases", {"resource": "'relay/0'"}),
}
# What cannot break before another constraint does: `id` alone is unique already, this only carries the members' foreign key.
CARRIERS = {"connections_id_company_id_key"}
# The other half of a rule that has two.
ALSO_BROKEN = [
    ("connections_mapped_fields_check", "connections", {"mapped_fields": "array['name', 'shoe_size']"}),
    ("companies_grace_days_check", "companies", {"grace_days": "-1"}),
    ("hold_is_dated", "members", {"held_at": "now()"}),
    ("members_national_id_check", "members", {"national_id": "''"}),
    ("dates_are_finite", "members", {"starts_at": "'-infinity'"}),
    ("removed_is_published", "members", {"state": "'removed'"}),
    ("removal_is_dated", "members", {"upstream_state": "'removed'", "state": "'removed'"}),
    ("pending_plan_is_dated", "members", {"pending_start": "current_date"}),
    ("held_until_some_time", "leases", {"expires_at": "now()"}),
]

TABLES = sorted(ROWS)
CONSTRAINTS = """
select conname from pg_constraint
where contype <> 'n' and conrelid::regclass::text = any ($1)
union
select indexrelid::regclass::text from pg_index where indisunique and indrelid::regclass::text = any ($1)
"""


def insert(table: str, **changed: str) -> str:
    row = ROWS[table] | changed
    override = " overriding system value" if "id" in changed and table in ("member_events", "outbox") else ""
    return f"insert into {table} ({', '.join(row)}){override} values ({', '.join(row.values())})"


@pytest.fixture(scope="module")
def filled_database(postgres_url: str, migrated_database: str) -> Iterator[str]:
    url = create_database(postgres_url, template=migrated_database)
    try:
        yield url
    finally:
        drop_database(url)


@pytest.fixture
async def connection(filled_database: str) -> AsyncIterator[Any]:
    """A transaction with a row in every table, never committed."""
    connection = await asyncpg.connect(filled_database)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(insert("companies", id=f"'{COMPANY}'", name="'Company'"))
    await connection.execute(insert("companies", id=f"'{OTHER_COMPANY}'", name="'Other'"))
    await connection.execute(insert("connections", id=f"'{CONNECTION}'", name="'first'"))
    await connection.execute(insert("members", id=f"'{MEMBER}'", external_id="'known'", national_id="'0101012345'"))
    await connection.execute(insert("member_events", id="1000", version="1"))
    await connection.execute(insert("inbox", message_id="'1'"))
    await connection.execute(insert("outbox", id="1000"))
    await connection.execute(insert("leases", resource="'relay/0'"))
    yield connection
    await transaction.rollback()
    await connection.close()


async def test_every_constraint_has_a_case(connection: Any) -> None:
    existing = {name for (name,) in await connection.fetch(CONSTRAINTS, TABLES)}

    assert existing == BROKEN.keys() | CARRIERS


@pytest.mark.parametrize("table", TABLES)
async def test_a_valid_row_is_taken(connection: Any, table: str) -> None:
    await connection.execute(insert(table))


@pytest.mark.parametrize(("constraint", "table", "changed"), [*((name, *case) for name, case in BROKEN.items()), *ALSO_BROKEN])
async def test_a_constraint_refuses_what_it_says(connection: Any, constraint: str, table: str, changed: dict[str, str]) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as caught:
        await connection.execute(insert(table, **changed))

    assert caught.value.constraint_name == constraint


async def test_a_tombstone_and_an_erased_member_are_valid(connection: Any) -> None:
    await connection.execute(insert("members", version="0", name="null", external_id="'a'", **GONE))
    await connection.execute(insert("members", version="5", name="null", external_id="'b'", **GONE))


async def test_two_members_without_a_key_or_a_national_id_are_two_members(connection: Any) -> None:
    for _ in range(2):
        await connection.execute(insert("members", connection_id="null", external_id="null"))
