"""Many rows go by COPY, and come to the same as few that do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from service.domain.errors import Contention, UnfitData
from service.store import member_events, members, outbox
from service.store.copying import COPY_FROM, copy_rows
from service.store.member_events import insert_member_events
from service.store.members import insert_members
from service.store.outbox import insert_outbox
from service.telemetry.statements import collecting_statements
from tests.apply_rig import Books, open_books

TEXTS = ["Anna", 'quote " and \\', "tab\tand\nline", "Þórdís 🎻", ""]
METADATA = [{}, {"a": [1, 2.5, None, True, {"b": "ö"}]}, {"": "\\u0001", "n": 2**53}]


@pytest.fixture
async def books(module_database_url: str) -> AsyncIterator[Books]:
    async with open_books(module_database_url) as books:
        yield books


async def made(books: Books) -> tuple[list[Any], list[Any], list[Any]]:
    """Applied by the statements of few rows: what they wrote, to be written once more."""
    changes = [
        books.upsert(
            1,
            {"name": f"{TEXTS[n % 4]} {n}", "email": TEXTS[n % 5] or None, "metadata": METADATA[n % 3], "national_id": None},
            external_id=f"ext-{n}",
        )
        for n in range(COPY_FROM - 1)
    ]
    kept: dict[str, list[Any]] = {"members": [], "events": [], "outbox": []}

    async def keep(name: str, rows: Any) -> None:
        kept[name] += rows

    with pytest.MonkeyPatch.context() as patch:
        from service.actions import apply_changes

        patch.setattr(apply_changes, "insert_members", lambda _, rows: keep("members", rows))
        patch.setattr(apply_changes, "insert_member_events", lambda _, rows: keep("events", rows))
        patch.setattr(apply_changes, "insert_outbox", lambda _, rows: keep("outbox", rows))
        assert set(await books.outcomes(*changes)) == {"applied"}
    return kept["members"], kept["events"], kept["outbox"]


async def written(books: Books) -> list[list[tuple[Any, ...]]]:
    found = []
    for table, place in (("members", "external_id"), ("member_events", "id"), ("outbox", "id")):
        rows = await books.fetch(f"select * from {table} order by {place}")
        found.append([tuple(value for key, value in row.items() if key not in ("id", "created_at")) for row in rows])
    return found


async def test_many_rows_are_stored_as_few_are(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    people, events, messages = await made(books)
    stored = []
    for copy_from in (1_000_000, 1):
        for module in (members, member_events, outbox):
            monkeypatch.setattr(module, "COPY_FROM", copy_from)
        await books.fetch("truncate members, member_events, outbox restart identity cascade")
        async with books.database.transaction() as tx:
            await insert_members(tx, people)
            await insert_member_events(tx, events)
            await insert_outbox(tx, messages)
        stored.append(await written(books))
    by_statement, by_copy = stored
    assert by_copy == by_statement
    assert len(by_copy[0]) == COPY_FROM - 1


async def test_a_key_that_somebody_else_has_is_contention_and_nothing_stays(books: Books) -> None:
    people, _, _ = await made(books)
    taken = [*people, replace(people[0], id=people[1].id)]
    with pytest.raises(Contention):
        async with books.database.transaction() as tx:
            await insert_members(tx, taken)
    assert await books.members() == []


@pytest.mark.parametrize("value", ["\ud800 secret", 7, ["secret"], b"secret"])
async def test_a_value_that_does_not_fit_is_told_without_it(books: Books, value: object) -> None:
    with pytest.raises(UnfitData) as raised:
        async with books.database.transaction() as tx:
            await copy_rows(tx, "companies", ["name"], [("fits",), (value,)])
    assert "secret" not in f"{raised.value!r}"
    assert raised.value.__cause__ is None
    assert await books.fetch("select from companies where name = 'fits'") == []


async def test_what_the_server_refuses_is_told_by_the_name_of_its_rule(books: Books) -> None:
    with pytest.raises(UnfitData, match=r"^the database refuses the data \(23514 companies_name_check\)$"):
        async with books.database.transaction() as tx:
            await copy_rows(tx, "companies", ["name"], [("",)])


async def test_a_copy_is_a_statement_of_the_trace(books: Books) -> None:
    with collecting_statements() as log:
        async with books.database.transaction() as tx:
            await copy_rows(tx, "companies", ["name", "time_zone"], [("Another company", "UTC")])
    (copied,) = (statement for statement in log.statements if statement.name.operation == "COPY")
    assert (copied.name.summary, copied.name.table, copied.error) == ("companies.copy", "companies", None)
    assert copied.began < copied.ended
