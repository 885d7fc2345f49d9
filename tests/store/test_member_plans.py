from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from deploy.local_stack.databases import in_thread
from service.domain.member import Standing
from service.store.database import Database
from service.store.member_views import MemberFilter, list_members
from tests.member_rig import COMPANIES, COMPANY, EARLY, LATE

MANY = 60_000
# The last twentieth joined by the late connection, with a plan of its own; a few are in each of the rare states, at the end.
LARGE = f"""
{COMPANIES}
update companies set grace_days = 30;
insert into members (
    id, company_id, connection_id, external_id, national_id, name, email, upstream_state, plan, expires_at, removed_at,
    state, version
)
select (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000000')::uuid, '{COMPANY}',
    case when n > {MANY} * 0.95 then '{LATE}' else '{EARLY}' end::uuid, 'ext-' || n, 'id' || n,
    case when n = {MANY - 7} then 'Ada Lovelace' else 'Anna ' || md5((n % 5000)::text) end, n || '@example.org',
    case when n > {MANY - 100} then 'removed' when n > {MANY - 200} then 'pending' else 'active' end,
    case when n > {MANY} * 0.95 then 'new' else 'old' end,
    case when n > {MANY} * 0.5 then now() + interval '1 day' else now() - interval '60 days' end + n % 300 * interval '1 hour',
    case when n > {MANY - 100} then now() end,
    case
        when n > {MANY - 100} then 'removed'
        when n > {MANY - 200} then 'pending'
        when n > {MANY} * 0.5 then 'active'
        else 'expired'
    end,
    1
from generate_series(1, {MANY}) n;
-- Those that nobody has reconciled yet.
update members set state = 'active' where expires_at < now() and id < '00000400-0000-0000-0000-000000000000';
analyze members;
"""


async def fill_largely(url: str) -> None:
    database = await Database.connect(url, name="tests", size=1, slowest=timedelta(minutes=5))
    async with database.transaction() as tx:
        await tx.execute(LARGE)
    await database.close()


@pytest.fixture(scope="module")
def large(module_database_url: str) -> None:
    in_thread(lambda: fill_largely(module_database_url))


FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "a plan of the last": {"plan": "new"},
    "a plan of nobody": {"plan": "none"},
    "a connection of the last": {"connection_id": LATE},
    "a national id": {"national_id": "id777"},
    "a rare name": {"text": "lovelace"},
    "a rare name of two words": {"text": "ada love"},
    "an address": {"text": "59993@example"},
    "a key": {"text": "ext-59993"},
    **{state.value: {"state": state} for state in Standing},
    "active of the last": {"state": Standing.ACTIVE, "connection_id": LATE},
}


@pytest.fixture
async def database(module_database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(module_database_url, name="tests", size=1)
    try:
        yield database
    finally:
        await database.close()


class Explained:
    """A transaction that explains what it is asked to fetch."""

    def __init__(self, tx: Any) -> None:
        self.fetchval, self.execute = tx.fetchval, tx.execute
        self._fetch = tx.fetch
        self.plan: Any = None

    async def fetch(self, sql: str, *given: Any) -> list[Any]:
        ((document,),) = await self._fetch(f"explain (analyze, buffers, format json) {sql}", *given)
        (explained,) = json.loads(document) if isinstance(document, str) else document
        self.plan = explained["Plan"]
        return []


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("wanted", FILTERS.values(), ids=FILTERS)
async def test_a_page_of_60_000_is_found_by_index_and_reads_little_more_than_itself(database: Database, wanted: Any) -> None:
    async with database.transaction() as tx:
        explained = Explained(tx)
        await list_members(explained, COMPANY, MemberFilter(**wanted), limit=51, default_grace_days=0)  # type: ignore[arg-type]  # all that it uses

    found = list(nodes(explained.plan))
    assert not [node for node in found if node["Node Type"] == "Seq Scan"]
    read = [node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in found if "Scan" in node["Node Type"]]
    # Of what has ended, all that is not reconciled: about a thousand here.
    assert max(read) < 2500
