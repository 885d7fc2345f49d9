from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from deploy.local_stack.databases import in_thread
from service.domain.directories.delta import Difference
from service.domain.jobs import JobId
from service.domain.member import ConnectionId, MemberId
from service.store import sync_delta, sync_pages, sync_staging
from service.store.bulk import plan_as_it_is, plan_for_bulk
from service.store.database import PREFER_INDEXES
from service.store.members import MEMBER_COLUMNS
from service.store.queries import REGISTRY
from service.store.sync_delta import compare_kept, count_delta
from service.store.sync_pages import ReadPage, compare_page
from tests.apply_rig import Books, open_books

# Their queries are known once they are loaded.
assert sync_delta.__all__
assert sync_pages.__all__
assert sync_staging.__all__
COMPANY, CONNECTION = UUID(int=1), UUID(int=2)
MANY = 200_000
BATCH = range(0, MANY, MANY // 500)

FILL = """
insert into companies (id, name) values ('{company}', 'Company');
insert into connections (id, company_id, name, kind, version_kind, mapped_fields)
values ('{connection}', '{company}', 'first', 'stream', 'sequence', array['name']);
insert into members (id, company_id, connection_id, external_id, national_id, name, upstream_state, state, version)
select lpad(to_hex(n), 32, '0')::uuid, '{company}', '{connection}', 'ext-' || n, 'id' || n, 'Anna', 'active', 'active', 1
from generate_series(0, {many} - 1) n;
insert into inbox (connection_id, source, message_id) select '{connection}', 'tests', n::text from generate_series(0, {many} - 1) n;
analyze;
"""


async def fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(FILL.format(company=COMPANY, connection=CONNECTION, many=MANY))
    await connection.close()


@pytest.fixture(scope="module")
def filled(module_database_url: str) -> str:
    in_thread(lambda: fill(module_database_url))
    return module_database_url


@pytest.fixture
async def connection(filled: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(filled)
    yield connection
    await connection.close()


def members_of_batch() -> list[list[Any]]:
    """500 whole rows as update_members takes them, and the versions that were read."""
    size = len(BATCH)
    given: dict[str, list[Any]] = {
        "id": [UUID(int=n) for n in BATCH],
        "company_id": [COMPANY] * size,
        "connection_id": [CONNECTION] * size,
        "external_id": [f"ext-{n}" for n in BATCH],
        "name": ["Berta"] * size,
        "metadata": ["{}"] * size,
        "upstream_state": ["active"] * size,
        "state": ["active"] * size,
        "version": [2] * size,
    }
    return [*(given.get(name, []) for name in MEMBER_COLUMNS), [1] * size]


STATEMENTS: dict[tuple[str, str], list[list[Any]]] = {
    ("members", "lock_members"): [
        [CONNECTION] * len(BATCH),
        [f"ext-{n}" for n in BATCH],
        [COMPANY] * len(BATCH),
        [f"id{n + 1}" for n in BATCH],
        [MemberId(UUID(int=n + 2)) for n in BATCH],
    ],
    ("members", "update_members"): members_of_batch(),
    ("members", "update_standings"): [
        [UUID(int=n) for n in BATCH],
        ["expired"] * len(BATCH),
        [2] * len(BATCH),
        [1] * len(BATCH),
    ],
    ("members", "lock_free_members"): [[UUID(int=n) for n in BATCH]],
    ("members", "delete_tombstones"): [[UUID(int=n) for n in BATCH]],
    ("inbox", "claim_messages"): [[CONNECTION] * len(BATCH), ["tests"] * len(BATCH), [f"{n}" for n in BATCH]],
    ("inbox", "release_messages"): [[CONNECTION] * len(BATCH), ["tests"] * len(BATCH), [f"{n}" for n in BATCH]],
}


def scans(plan: Any) -> Iterator[tuple[str, str]]:
    """Each node that reads members or inbox, with the way it does."""
    if plan.get("Relation Name") in ("members", "inbox") and "Scan" in plan["Node Type"]:
        yield plan["Relation Name"], plan["Node Type"]
    for inner in plan.get("Plans", []):
        yield from scans(inner)


@pytest.mark.parametrize("statement", STATEMENTS, ids="/".join)
async def test_a_batch_of_500_among_200_000_is_found_by_index(connection: Any, statement: tuple[str, str]) -> None:
    transaction = connection.transaction()
    await transaction.start()
    for name, value in PREFER_INDEXES.items():
        await connection.execute(f"set local {name} = {value}")
    explain = f"explain (analyze, buffers, format json) {REGISTRY[statement].sql}"
    ((document,),) = await connection.fetch(explain, *STATEMENTS[statement])
    await transaction.rollback()

    (explained,) = json.loads(document)
    ways = set(scans(explained["Plan"]))
    assert not {way for _, way in ways if way == "Seq Scan"}
    # Some pages for each row and not the whole table, which has about 5,000.
    found = explained["Plan"]
    assert found["Shared Hit Blocks"] + found["Shared Read Blocks"] < 20_000
    if statement != ("inbox", "claim_messages"):
        assert ways


JOB, LOG = UUID(int=3), UUID(int=4)
BEGAN = datetime(2026, 11, 22, tzinfo=UTC)
SAME, OTHER = bytes(16), bytes([*[0] * 15, 1])
# Everybody but every tenth, a tenth of them with another hash, and as many that nobody knows, with known people's national ids.
SNAPSHOT = f"""
insert into sync_staging (job_id, external_id, source_hash, content, national_id)
select '{JOB}', 'ext-' || n, '\\x{OTHER.hex()}', '\\x7b7d', 'id' || n from generate_series(1, {MANY} - 1, 10) n;
insert into sync_staging (job_id, external_id, source_hash, content, national_id)
select '{JOB}', 'new-' || n, '\\x{SAME.hex()}', '\\x7b7d', 'id' || n
from generate_series(0, {MANY // 10} - 1) n;
insert into sync_pages (job_id, reading, records, keys, hashes)
select '{JOB}', reading, count(*), string_agg(key, E'\\x1f'), string_agg('\\x{SAME.hex()}'::bytea, '')
from (
    select 'ext-' || n as key, n / 1000 as page from generate_series(0, {MANY} - 1) n where n % 10 <> 3
    union all
    select 'new-' || n, -1 - n / 1000 from generate_series(0, {MANY // 10} - 1) n
) k, generate_series(1, 2) reading
group by reading, page;
update members set source_hash = '\\x{SAME.hex()}';
"""
READ_OF_MEMBERS = (
    "select seq_tup_read as through, idx_tup_fetch as by_index from pg_stat_xact_user_tables where relid = 'members'::regclass"
)
BULK: list[tuple[tuple[str, str], list[Any]]] = [
    (("sync_pages", "count_keys"), [JOB, 1]),
    (("sync_pages", "count_pages"), [JOB, 1]),
    (("sync_delta", "digest_members"), [CONNECTION, BEGAN, 42]),
    (("sync_delta", "find_absent"), [JOB, CONNECTION, BEGAN]),
    (("sync_delta", "count_delta"), [JOB]),
    (("sync_delta", "pair_by_national_id"), [JOB, COMPANY, CONNECTION, BEGAN]),
    (("sync_delta", "unpair_those_present"), [JOB, 1]),
    (("sync_delta", "drop_those_present"), [JOB, 2]),
    (("sync_delta", "drop_those_replaced"), [JOB]),
    (("sync_delta", "count_unlisted_removals"), [JOB, LOG]),
    (("members", "count_live_members"), [CONNECTION]),
    (("sync_delta", "discard_delta"), [JOB]),
    (("sync_pages", "discard_pages"), [JOB]),
    (("sync_staging", "discard_staging"), [JOB]),
]
KEPT = ("sync_delta", "compare_kept"), [JOB, CONNECTION, b"gone"]


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


@pytest.mark.parametrize("analysed", [True, False], ids=["analysed", "analysed while empty"])
async def test_a_comparison_with_200_000_reads_each_table_once_and_loops_nowhere(connection: Any, analysed: bool) -> None:
    transaction = connection.transaction()
    await transaction.start()
    for name, value in PREFER_INDEXES.items():
        await connection.execute(f"set local {name} = {value}")
    await connection.execute("analyze sync_staging; analyze sync_delta")
    await connection.execute(SNAPSHOT)
    if analysed:
        await connection.execute("analyze sync_staging")
    await plan_as_it_is(connection)
    kept = REGISTRY[KEPT[0]].sql
    ((document,),) = await connection.fetch(f"explain (analyze, buffers, format json) {kept}", *KEPT[1], timeout=300)
    (explained,) = json.loads(document)
    # Of a member some pages, by whichever index: not the whole table for each.
    assert explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"] < 20 * MANY // 5
    await plan_for_bulk(connection)
    found = {}
    for statement, arguments in BULK:
        ((document,),) = await connection.fetch(
            f"explain (analyze, buffers, format json) {REGISTRY[statement].sql}", *arguments, timeout=300
        )
        plans = list(nodes(json.loads(document)[0]["Plan"]))
        found[statement[1]] = plans
        assert not [plan for plan in plans if plan["Node Type"] == "Nested Loop"], statement
        # Whatever is read through is read through once, be it by a few processes together.
        assert all(plan["Actual Loops"] <= 8 for plan in plans if "Scan" in plan["Node Type"]), statement
        if statement[1] == "find_absent" and analysed:
            await connection.execute("analyze sync_delta")
    await transaction.rollback()

    (join,) = [plan for plan in found["find_absent"] if plan["Node Type"] in ("Hash Join", "Merge Join")]
    assert join["Join Type"] in ("Anti", "Right Anti")
    assert join["Actual Rows"] == MANY // 10


async def test_a_few_kept_records_are_looked_up_though_the_server_has_not_counted_the_members_yet(connection: Any) -> None:
    few = 500
    transaction = connection.transaction()
    await transaction.start()
    for name, value in PREFER_INDEXES.items():
        await connection.execute(f"set local {name} = {value}")
    # As after a first import: it takes the connection's members for a thousand.
    await connection.execute("delete from pg_statistic where starelid = 'members'::regclass")
    await connection.execute(
        f"""
        insert into sync_staging (job_id, external_id, source_hash, content)
        select '{JOB}', 'ext-' || n, '\\x{OTHER.hex()}', '\\x7b7d' from generate_series(1, {MANY} - 1, {MANY // few}) n
        """
    )
    await connection.execute("analyze sync_staging")
    before = await connection.fetchrow(READ_OF_MEMBERS)
    await compare_kept(connection, JobId(JOB), ConnectionId(CONNECTION), b"gone", few=True)
    after = await connection.fetchrow(READ_OF_MEMBERS)
    found = await count_delta(connection, JobId(JOB))
    await transaction.rollback()
    assert found[Difference.UPDATED].records == few
    assert after["through"] == before["through"]
    assert after["by_index"] - before["by_index"] == few


async def test_a_page_of_4_000_is_compared_by_the_keys_of_its_records_from_the_first_on(connection: Any) -> None:
    size, pages = 4000, 7
    page = ReadPage([f"ext-{n}" for n in range(0, MANY, MANY // size)], [SAME] * (size - 1) + [OTHER])
    transaction = connection.transaction()
    await transaction.start()
    for name, value in PREFER_INDEXES.items():
        await connection.execute(f"set local {name} = {value}")
    # As after a first import: it takes the connection's members for a thousand.
    await connection.execute("delete from pg_statistic where starelid = 'members'::regclass")
    before = await connection.fetchrow(READ_OF_MEMBERS)
    for _ in range(pages):
        found = await compare_page(connection, JobId(JOB), ConnectionId(CONNECTION), page, b"gone", began_at=BEGAN, seed=42)
        assert found.seen.members == size
    after = await connection.fetchrow(READ_OF_MEMBERS)
    await transaction.rollback()
    assert after["through"] == before["through"]
    # The server plans the first five anew, for their very keys, and would read all members for each.
    assert after["by_index"] - before["by_index"] == pages * size


async def test_plans_made_while_the_tables_were_empty_do_not_read_them_through_later(database_url: str) -> None:
    async with open_books(database_url, size=1) as books:
        for table in ("members", "inbox", "member_events", "outbox"):
            await books.fetch(f"analyze {table}")
        # Often enough for the server to settle on a plan for good.
        for number in range(10):
            person = {"national_id": f"id{number}"}
            await books.apply(*(books.upsert(n, {"name": f"{n}", **person}, external_id=f"{number}") for n in (1, 2)))
            await books.apply(books.upsert(3, {"name": "3", **person}, external_id=f"{number}", message=f"{number}"))
        through, fetched = await rows_read(books)
        for version in (1, 2):
            for batch in range(4):
                await books.apply(
                    *(
                        books.upsert(
                            version,
                            {"name": f"{version}", "national_id": f"{batch}/{n}"},
                            external_id=f"{batch}/{n}",
                            message=f"{version}/{batch}/{n}",
                        )
                        for n in range(500)
                    )
                )

        through_now, fetched_now = await rows_read(books)
        assert through_now == through
        # By its key, its national id, its id, for its constraints: some for each of the 4,000 changes, not thousands.
        assert fetched_now - fetched < 20 * 4000
        await books.check()


async def rows_read(books: Books) -> tuple[int, int]:
    """Rows that were read by going through a table, and by index."""
    # The counts of this very connection, which is the only one.
    await books.fetch("select pg_stat_force_next_flush()")
    await books.fetch("select pg_stat_clear_snapshot()")
    ((through, fetched),) = await books.fetch(
        "select sum(seq_tup_read)::bigint, sum(idx_tup_fetch)::bigint "
        "from pg_stat_user_tables where relname in ('members', 'inbox')"
    )
    return through, fetched
