from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.member import CompanyId, MemberId, Standing, UpstreamState, standing
from service.store.database import Database
from service.store.member_views import MemberFilter, MemberView, find_member, list_members
from tests.member_rig import COMPANIES, COMPANY, EARLY, LATE, OTHER, OTHERS

INSERT = """
insert into members (
    id, company_id, connection_id, external_id, name, email, upstream_state, hold, held_at, plan, expires_at, removed_at,
    state, version
)
select
    id, company_id, connection_id, external_id, name, email, upstream_state, hold, case when hold is not null then now() end, plan,
    expires_at, case when upstream_state = 'removed' then now() end, state, version
from jsonb_populate_recordset(null::members, $1)
"""


@pytest.fixture
async def database(module_database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(module_database_url, name="tests", size=2)
    try:
        yield database
    finally:
        await database.close()


def row(number: int, **facts: Any) -> dict[str, Any]:
    """A member as it is stored, in the order of its number."""
    common = {
        "id": str(UUID(int=1000 + number)),
        "company_id": str(COMPANY),
        "connection_id": str(EARLY),
        "external_id": f"ext-{number}",
        "name": "Anna",
        "upstream_state": "active",
        "state": "active",
        "version": 1,
    }
    return common | {name: value.isoformat() if isinstance(value, datetime) else value for name, value in facts.items()}


async def fill(database: Database, rows: list[dict[str, Any]], grace_days: int = 0) -> None:
    async with database.transaction() as tx:
        await tx.execute(COMPANIES)
        await tx.execute("update companies set grace_days = $1", grace_days)
        await tx.execute(INSERT, rows)


async def listed(database: Database, company: CompanyId = COMPANY, *, limit: int = 1000, **wanted: Any) -> list[MemberView]:
    """All pages of a list, one after the other."""
    found: list[MemberView] = []
    while True:
        async with database.transaction() as tx:
            page = await list_members(
                tx,
                company,
                MemberFilter(**wanted),
                after=found[-1].id if found else None,
                limit=limit,
                default_grace_days=0,
            )
        found += page
        if len(page) < limit:
            return found


def numbers(members: list[MemberView]) -> list[int]:
    return [member.id.int - 1000 for member in members]


DAYS = st.none() | st.sampled_from([-40, -30, -3, -1, 1, 30])
FACTS = st.fixed_dictionaries(
    {
        "upstream_state": st.sampled_from(list(UpstreamState)),
        "hold": st.none() | st.just("unpaid"),
        "ends": DAYS,
        "plan": st.sampled_from([None, "gold", "silver"]),
        "connection_id": st.sampled_from([str(EARLY), str(LATE)]),
        # So long ago it was published, with so many days of grace.
        "ago": st.sampled_from([0, 2, 35]),
        "grace_then": st.sampled_from([0, 5, 60]),
    }
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FACTS, max_size=25), st.sampled_from([0, 5, 35]), st.integers(1, 7))
async def test_every_filter_finds_exactly_who_is_so_now_whatever_was_published(
    database: Database, facts: list[dict[str, Any]], grace_days: int, limit: int
) -> None:
    now = datetime.now(UTC)
    rows, states = [], []
    for number, one in enumerate(facts):
        ends = None if one["ends"] is None else now + timedelta(days=one["ends"])
        upstream = UpstreamState(one["upstream_state"])

        def at(moment: datetime, days: int, one: Any = one, ends: Any = ends, upstream: Any = upstream) -> Standing:
            return standing(upstream, one["hold"], ends, grace=timedelta(days=days), now=moment)

        stored = {name: one[name] for name in ("upstream_state", "hold", "plan", "connection_id")}
        published = at(now - timedelta(days=one["ago"]), one["grace_then"])
        rows.append(row(number, **stored, expires_at=ends, state=published))
        states.append(at(now, grace_days))
    await fill(database, rows, grace_days)

    everybody = await listed(database, limit=limit)
    assert numbers(everybody) == list(range(len(facts)))
    assert [member.state for member in everybody] == states
    for state in Standing:
        those = [number for number, found in enumerate(states) if found is state]
        assert numbers(await listed(database, limit=limit, state=state)) == those
        golden = [number for number in those if facts[number]["plan"] == "gold"]
        assert numbers(await listed(database, limit=limit, state=state, plan="gold")) == golden
        late = [number for number in those if facts[number]["connection_id"] == str(LATE)]
        assert numbers(await listed(database, limit=limit, state=state, connection_id=LATE)) == late
        assert numbers(await listed(database, limit=limit, state=state, text="anna")) == those
    plans = [number for number, one in enumerate(facts) if one["plan"] == "silver"]
    assert numbers(await listed(database, limit=limit, plan="silver")) == plans
    of_late = [number for number, one in enumerate(facts) if one["connection_id"] == str(LATE)]
    assert numbers(await listed(database, limit=limit, connection_id=LATE)) == of_late
    for number, state in enumerate(states):
        async with database.transaction() as tx:
            member = await find_member(tx, COMPANY, MemberId(UUID(int=1000 + number)), 0)
        assert member is not None
        assert member.state == state


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ada", [0, 3]),
        ("lovel", [0]),
        ("LOVELACE Ada", [0]),
        ("ada king", []),
        ("gudrun", [1]),
        ("Guðrún jónsd", [1]),
        ("thora", []),
        ("þora", [2]),
        ("ADA@EXAMPLE", [3]),
        ("a_a@example", []),
        ("%", []),
        ("key-4", [4]),
        ("key", []),
        ("o'br", [4]),
        ("\\", [5]),
        ("& | ! :*", []),
        ("   ", []),
        ("chen", [6]),
        ("陈", [6]),
    ],
)
async def test_people_are_found_by_beginnings_of_words_by_address_and_by_key(
    database: Database, text: str, found: list[int]
) -> None:
    people = [
        {"name": "Ada Lovelace"},
        {"name": "Guðrún  Jónsdóttir"},
        {"name": "ÞÓRA"},
        {"name": "Bob", "email": "Ada@example.org"},
        {"name": "Eve O'Brien", "external_id": "key-4"},
        {"name": "\\ back ' slash"},
        {"name": "陈\u00a0Chen\tLi"},
    ]
    theirs = {"company_id": str(OTHER), "connection_id": str(OTHERS), "name": "Ada Lovelace Gudrun", "external_id": "key-4"}
    await fill(database, [*(row(n, **one) for n, one in enumerate(people)), row(90, **theirs)])

    assert numbers(await listed(database, text=text)) == found


async def test_tombstones_and_members_of_others_are_nobodys(database: Database) -> None:
    tombstone = row(1, upstream_state="removed", state="removed", version=0)
    await fill(database, [row(0), tombstone, row(2, company_id=str(OTHER), connection_id=str(OTHERS), plan="gold")])

    for wanted in ({}, {"text": "anna"}, {"connection_id": EARLY}, {"state": Standing.ACTIVE}):
        assert numbers(await listed(database, **wanted)) == [0]
    assert await listed(database, connection_id=OTHERS) == []
    assert await listed(database, plan="gold") == []
    assert await listed(database, state=Standing.REMOVED) == []
    assert await listed(database, CompanyId(uuid4())) == []
    async with database.transaction() as tx:
        assert await find_member(tx, COMPANY, MemberId(UUID(int=1001)), 0) is None
        assert await find_member(tx, COMPANY, MemberId(UUID(int=1002)), 0) is None


async def test_pages_neither_repeat_nor_miss_anybody_while_others_join(database: Database) -> None:
    await fill(database, [row(number) for number in range(0, 20, 2)])
    found: list[MemberView] = []
    for number in range(1, 21, 2):
        async with database.transaction() as tx:
            page = await list_members(
                tx, COMPANY, MemberFilter(), after=found[-1].id if found else None, limit=1, default_grace_days=0
            )
            found += page
            await tx.execute(INSERT, [row(number), row(100 + number)])

    seen = numbers(found)
    assert seen == sorted(set(seen))
    assert len(seen) == 10
