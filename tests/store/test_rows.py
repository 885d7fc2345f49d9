from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from service.store.rows import column_names, columns


@dataclass(frozen=True)
class Row:
    id: int
    name: str | None
    note: str | None


NAMES = column_names(Row)


def test_rows_become_one_list_a_column_in_the_order_of_the_fields() -> None:
    assert columns(NAMES, [Row(1, "a", "x"), Row(2, None, "y")]) == [[1, 2], ["a", None], ["x", "y"]]


def test_no_rows_are_empty_columns() -> None:
    assert columns(NAMES, []) == [[], [], []]


async def test_a_column_without_a_value_is_left_to_the_database_to_fill(database_url: str) -> None:
    given = columns(NAMES, [Row(1, "a", None), Row(2, None, None)])
    assert given == [[1, 2], ["a", None], []]

    connection = await asyncpg.connect(database_url)
    found = await connection.fetch("select * from unnest($1::int[], $2::text[], $3::text[])", *given)
    await connection.close()

    assert [tuple(row) for row in found] == [(1, "a", None), (2, None, None)]
