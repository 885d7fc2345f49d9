"""Rows as columns: what a set-based statement takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["column_names", "columns", "tuples"]


def column_names(row_type: type[DataclassInstance]) -> tuple[str, ...]:
    """The columns of a row type, in the order of its fields."""
    return tuple(field.name for field in fields(row_type))


def columns(names: Sequence[str], rows: Sequence[Any]) -> list[list[Any]]:
    """One list a column, for an `unnest` of all of them, one of which is never null in any row.

    A column without a value is an empty list: `unnest` fills it up with nulls, and the driver looks at every null it is given.
    """
    take = attrgetter(*names)
    transposed = zip(*map(take, rows), strict=True) if rows else ((),) * len(names)
    return [[] if column.count(None) == len(column) else list(column) for column in transposed]


def tuples(names: Sequence[str], rows: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """One tuple a row, for a COPY."""
    return map(attrgetter(*names), rows)
