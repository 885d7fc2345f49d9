"""Rows as columns: what a set-based statement takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["column_names", "columns"]


def column_names(row_type: type[DataclassInstance]) -> tuple[str, ...]:
    """The columns of a row type, in the order of its fields."""
    return tuple(field.name for field in fields(row_type))


def columns(names: Sequence[str], rows: Sequence[Any]) -> list[list[Any]]:
    """One list a column, for `unnest`."""
    take = attrgetter(*names)
    return [list(column) for column in zip(*map(take, rows), strict=True)] if rows else [[] for _ in names]
