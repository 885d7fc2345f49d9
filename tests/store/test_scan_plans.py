"""Pages of findings and lookups of scans at 60,000 rows: by an index, and reading little more than what they answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from deploy.local_stack.databases import in_thread
from service.domain.member import MemberId
from service.domain.scans import FindingState, Found, Severity
from service.store.database import Database
from service.store.findings import (
    FindingFilter,
    erase_findings,
    list_findings,
    list_findings_of_scan,
    record_findings,
    resolve_pointless,
    resolve_unseen,
)
from service.store.retention import discard_ended_findings
from service.store.scanned_members import (
    count_live_members,
    list_members_at,
    list_members_outside,
    list_scanned_members,
    stream_members_sharing_email,
    stream_members_sharing_national_id,
)
from tests.member_rig import COMPANIES, COMPANY, OTHER

MANY = 60_000
# Half the members are another company's. Of a company's findings nine in ten are resolved, and what is rare is old: whoever reads
# them from the newest on without an index for it reads everything.
LARGE = f"""
{COMPANIES}
insert into members (id, company_id, name, email, national_id, upstream_state, removed_at, state, version)
select (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000000')::uuid,
    case when n % 2 = 0 then '{COMPANY}' else '{OTHER}' end::uuid, 'Anna',
    case when n > {MANY} - 40 then 'Twin' || n / 4 || '@choir.example' when n = 2 then 'm2@elsewhere.example'
        else 'm' || n || '@choir.example' end,
    case when n in ({MANY}, {MANY} - 4) then repeat('.', n - {MANY} + 4) || 'AB1' else 'id' || n end,
    case when n % 10 = 8 then 'removed' else 'active' end, case when n % 10 = 8 then now() end,
    case when n % 10 = 8 then 'removed' else 'active' end, 1
from generate_series(1, {MANY}) n;
insert into findings (
    id, company_id, member_id, provider, kind, key, severity, detail, first_scan, last_scan, state, resolved_at, resolution
)
select (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000001')::uuid, m.company_id, m.id,
    case when n < 100 then 'breach' else 'duplicates' end, case when n < 100 then 'breached_account' else 'duplicate_email' end, '',
    case when n < 100 then 'critical' else 'low' end, '{{}}', 1 + n / 1000,
    case when n % 10 in (0, 1) then 100 else 1 + n / 1000 end,
    case when n % 10 in (0, 1) then 'open' else 'resolved' end, case when n % 10 not in (0, 1) then now() end,
    case when n % 10 not in (0, 1) then 'not_found' end
from generate_series(1, {MANY}) n
join members m on m.id = (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000000')::uuid;
analyze members, findings;
"""


async def fill_largely(url: str) -> None:
    database = await Database.connect(url, name="tests", size=1, slowest=timedelta(minutes=5))
    async with database.transaction() as tx:
        await tx.execute(LARGE)
    await database.close()


@pytest.fixture(scope="module")
def large(module_database_url: str) -> None:
    in_thread(lambda: fill_largely(module_database_url))


@pytest.fixture
async def database(module_database_url: str, large: None) -> AsyncIterator[Database]:
    database = await Database.connect(module_database_url, name="tests", size=1)
    try:
        yield database
    finally:
        await database.close()


class Explained:
    """A transaction that also explains what it is asked for, as often as a cached statement is planned for nobody in particular."""

    def __init__(self, tx: Any) -> None:
        self._tx = tx
        self.read = 0

    async def fetch(self, sql: str, *given: Any, **_: Any) -> list[Any]:
        await self._explain(sql, given)
        return list(await self._tx.fetch(sql, *given))

    async def fetchval(self, sql: str, *given: Any, **_: Any) -> Any:
        await self._explain(sql, given)
        return await self._tx.fetchval(sql, *given)

    async def execute(self, sql: str, *given: Any, **_: Any) -> Any:
        await self._explain(sql, given)
        return await self._tx.execute(sql, *given)

    async def _explain(self, sql: str, given: Any) -> None:
        # What is changed while it is explained is undone: the same is asked for once more.
        await self._tx.execute("savepoint explained")
        for mode in ("force_custom_plan", "force_generic_plan"):
            await self._tx.execute(f"set local plan_cache_mode = {mode}")
            ((document,),) = await self._tx.fetch(f"explain (analyze, format json) {sql}", *given)
            (explained,) = json.loads(document) if isinstance(document, str) else document
            found = list(nodes(explained["Plan"]))
            assert not [node for node in found if node["Node Type"] == "Seq Scan"], (mode, explained)
            read = [
                (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
                for node in found
                if node["Node Type"] in ("Index Scan", "Index Only Scan")
            ]
            self.read = max(self.read, *read)
            await self._tx.execute("rollback to savepoint explained")


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


FILTERS: dict[str, FindingFilter] = {
    "all that is open": FindingFilter(),
    "all that was": FindingFilter(state=FindingState.RESOLVED),
    "a rare severity": FindingFilter(severity=Severity.CRITICAL),
    "a rare severity that was": FindingFilter(state=FindingState.RESOLVED, severity=Severity.CRITICAL),
    "a rare kind": FindingFilter(kind="breached_account"),
    "a rare provider": FindingFilter(provider="breach"),
    "a rare provider and severity": FindingFilter(provider="breach", severity=Severity.CRITICAL),
    "a severity of nobody": FindingFilter(severity=Severity.HIGH),
    "a provider of nobody": FindingFilter(provider="nobody"),
}


@pytest.mark.parametrize("wanted", FILTERS.values(), ids=FILTERS)
async def test_a_page_of_findings_reads_little_more_than_itself(database: Database, wanted: FindingFilter) -> None:
    async with database.transaction() as tx:
        explained: Any = Explained(tx)
        rows = await list_findings(explained, COMPANY, wanted, limit=51)
        assert explained.read <= 52
        if len(rows) == 51:
            await list_findings(explained, COMPANY, wanted, below=rows[-1].id, limit=51)
    assert explained.read <= 52
    assert [row.id for row in rows] == sorted((row.id for row in rows), reverse=True)
    assert bool(rows) is (wanted.provider != "nobody" and wanted.severity is not Severity.HIGH)


async def test_a_member_s_findings_and_a_scan_s_are_found_by_their_indexes(database: Database) -> None:
    async with database.transaction() as tx:
        (row,) = await list_findings(tx, COMPANY, FindingFilter(), limit=1)
        explained: Any = Explained(tx)
        of_member = FindingFilter(member_id=MemberId(row.member_id))
        assert [one.id for one in await list_findings(explained, COMPANY, of_member, limit=51)] == [row.id]
        await erase_findings(explained, MemberId(row.member_id))
        assert explained.read <= 2

        newest: Any = Explained(tx)
        assert len(await list_findings_of_scan(newest, COMPANY, 100, limit=51)) == 51
        # Nine in ten were resolved before it.
        assert newest.read < 1000


async def test_recording_and_resolving_a_batch_read_that_batch(database: Database) -> None:
    async with database.transaction() as tx:
        members = [one.id for one in await list_scanned_members(tx, COMPANY, None, 500)]
        for write in ("record", "unseen", "pointless", "retention"):
            explained: Any = Explained(tx)
            match write:
                case "record":
                    found = [Found(one, "duplicate_email", Severity.LOW) for one in members]
                    recorded = await record_findings(explained, COMPANY, "duplicates", 101, found)
                    assert recorded.found == 500
                case "unseen":
                    looked = await resolve_unseen(explained, COMPANY, "duplicates", 101, None, 500)
                    assert looked.last is not None
                case "pointless":
                    await resolve_pointless(explained, COMPANY, ["duplicates"], None, 500)
                case "retention":
                    assert await discard_ended_findings(explained, timedelta(0), 500) == 500
            assert explained.read <= 600, write


async def test_members_are_looked_up_by_their_index_and_found_whole(database: Database) -> None:
    live = MANY // 2 - MANY // 10
    async with database.transaction() as tx:
        assert await count_live_members(tx, COMPANY) == live
        explained: Any = Explained(tx)
        first = await list_scanned_members(explained, COMPANY, None, 500)
        await list_scanned_members(explained, COMPANY, first[-1].id, 500)
        found = await list_members_at(explained, COMPANY, [f"m{n}@choir.example" for n in range(1, 1001)])
        assert len(found) == 399
        assert all(one.address == one.email for one in found)
        # Of five in a row of the company's one has left.
        assert explained.read <= 640
        outside = await list_members_outside(tx, COMPANY, ["choir.example"], None, 500)
        assert [one.email for one in outside] == ["m2@elsewhere.example"]


async def test_who_shares_something_is_found_in_one_pass_with_nobody_twice(database: Database) -> None:
    async with database.transaction() as tx:
        by_email = [one async for some in stream_members_sharing_email(tx, COMPANY, 7) for one in some]
    async with database.transaction() as tx:
        by_id = [one async for some in stream_members_sharing_national_id(tx, COMPANY, 7) for one in some]
        expected = await tx.fetch(
            "select id from members m where company_id = $1 and upstream_state <> 'removed' and exists (select from members o "
            "where o.company_id = $1 and o.upstream_state <> 'removed' and lower(o.email) = lower(m.email) and o.id <> m.id)",
            COMPANY,
        )
    assert {one.id for one in by_email} == {identity for (identity,) in expected}
    assert len(by_email) == len({one.id for one in by_email}) == 10
    assert all(one.other != one.id for one in by_email)
    assert sorted((one.sharing, one.id < one.other) for one in by_id) == [(2, False), (2, True)]


async def test_members_are_found_at_an_address_whatever_its_case_and_the_blanks_around_it(database: Database) -> None:
    asked = [" A@Blank.example", "b@blank.example", "B@BLANK.example ", "", " "]
    async with database.transaction() as tx:
        await tx.execute(
            "insert into members (id, company_id, name, email, upstream_state, state, version) "
            "select gen_random_uuid(), $1, 'Anna', email, 'active', 'active', 1 from unnest($2::text[]) e (email)",
            COMPANY,
            [
                "a@blank.EXAMPLE",
                "  a@blank.example",
                "A@blank.example  ",
                " b@blank.example ",
                "a@blank.example.org",
                "xa@blank.example",
                " ",
            ],
        )
        explained: Any = Explained(tx)
        found = await list_members_at(explained, COMPANY, asked)
        assert explained.read < 20
        assert sorted((str(one.email), one.address) for one in found) == sorted(
            [
                ("a@blank.EXAMPLE", asked[0]),
                ("  a@blank.example", asked[0]),
                ("A@blank.example  ", asked[0]),
                (" b@blank.example ", asked[1]),
                (" b@blank.example ", asked[2]),
            ]
        )
        await tx.execute("delete from members where email like '%blank.%' or email = ' '")
