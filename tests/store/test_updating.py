"""Members written over what was read: whole, or their standing alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

import pytest

from service.domain.member import Member, MemberId, Standing, altered_member, member_of
from service.store.members import MEMBER_COLUMNS, MemberKeys, lock_free_members, lock_members, update_members
from service.telemetry.statements import collecting_statements
from tests.apply_rig import Books, open_books

VALUES = attrgetter(*MEMBER_COLUMNS)


@pytest.fixture
async def books(database_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url) as books:
        metadata = {"card": 1}
        given = [books.upsert(1, {"name": f"Anna {n}", "metadata": metadata}, external_id=f"m-{n}") for n in range(3)]
        assert set(await books.outcomes(*given)) == {"applied"}
        yield books


async def read(tx: Any, books: Books) -> list[Member]:
    keys = MemberKeys({(books.connection, f"m-{n}") for n in range(3)}, set(), set())
    return await lock_members(tx, keys)


async def rows(books: Books) -> dict[MemberId, dict[str, Any]]:
    return {row["id"]: dict(row) for row in await books.members()}


def test_a_member_of_its_values_is_the_member() -> None:
    assert tuple(field.name for field in fields(Member)) == MEMBER_COLUMNS
    with pytest.raises(ValueError, match="shorter"):
        member_of([1, 2])


async def test_altered_it_is_what_replace_makes_of_it(books: Books) -> None:
    async with books.database.transaction() as tx:
        member, *_ = await read(tx, books)
    facts = {"state": Standing.EXPIRED, "version": 2, "metadata": {"card": 2}}
    assert altered_member(member, facts) == replace(member, **facts)  # type: ignore[arg-type]  # as a caller of either gives them
    assert altered_member(member, {}) == member_of(VALUES(member)) == member
    assert hash(member.id) == hash(altered_member(member, facts).id)
    with pytest.raises(KeyError):
        altered_member(member, {"shoe": 38})


async def test_of_whom_time_makes_something_else_the_standing_alone_is_written(books: Books) -> None:
    before = await rows(books)
    with collecting_statements() as statements:
        async with books.database.transaction() as tx:
            members = await read(tx, books)
            expired = [(altered_member(one, {"state": Standing.EXPIRED, "version": 2}), one) for one in members]
            assert await update_members(tx, expired) == 3
    assert [one.name.summary for one in statements.statements if one.name.operation == "UPDATE"] == ["members.update_standings"]
    changed = {"state": "expired", "version": 2}
    assert await rows(books) == {identity: {**row, **changed} for identity, row in before.items()}


async def test_who_changes_in_more_than_that_is_written_whole_beside_the_others(books: Books) -> None:
    async with books.database.transaction() as tx:
        first, second, third = await read(tx, books)
        # To Python this is what was there already.
        true = altered_member(first, {"metadata": {"card": True}, "version": 2})
        plan = altered_member(second, {"plan": "gold", "state": Standing.EXPIRED, "version": 2})
        expired = altered_member(third, {"state": Standing.EXPIRED, "version": 2})
        assert await update_members(tx, [(true, first), (plan, second), (expired, third)]) == 3
    found = await rows(books)
    assert found[first.id]["metadata"] == {"card": True}
    assert found[first.id]["metadata"]["card"] is True
    assert (found[second.id]["plan"], found[second.id]["state"], found[third.id]["state"]) == ("gold", "expired", "expired")


async def test_who_is_at_another_version_is_not_written_either_way(books: Books) -> None:
    before = await rows(books)
    async with books.database.transaction() as tx:
        first, second, _ = (replace(one, version=7) for one in await read(tx, books))
        expired = altered_member(first, {"state": Standing.EXPIRED, "version": 8})
        plan = altered_member(second, {"plan": "gold", "version": 8})
        assert await update_members(tx, [(expired, first), (plan, second)]) == 0
    assert await rows(books) == before


async def test_whom_somebody_else_has_locked_is_left_out(books: Books) -> None:
    async with books.database.transaction() as tx, books.database.transaction() as other:
        members = await read(tx, books)
        assert await lock_free_members(other, [member.id for member in members]) == []
    async with books.database.transaction() as tx:
        assert await lock_free_members(tx, [member.id for member in members]) == members
