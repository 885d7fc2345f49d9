"""Pages of a list: keyset cursors that say nothing to whoever holds them and belong to one list."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as InvalidBase64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import orjson
from fastapi import Depends, Query

from service.entrypoints.http.admin.api_model import Listed
from service.entrypoints.http.admin.problems import ProblemError

__all__ = ["Cursor", "Page", "PageQuery"]

T = TypeVar("T")
A = TypeVar("A")

_LONGEST: Final = 500
_LARGEST_INTEGER: Final = 2**63 - 1


def _page(
    limit: Annotated[int, Query(ge=1, le=200, description="So many at most.")] = 50,
    cursor: Annotated[str | None, Query(max_length=_LONGEST, description="The `nextCursor` of the page before.")] = None,
) -> PageQuery:
    return PageQuery(limit, cursor)


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which page was asked for."""

    limit: int
    cursor: str | None

    @property
    def wanted(self) -> int:
        """How many rows to read: one more than is shown says whether there is a next page."""
        return self.limit + 1


Page = Annotated[PageQuery, Depends(_page)]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How the cursors of one list are made: `name` is the list's own, `kinds` are those of the last row's keys."""

    name: str
    kinds: tuple[type[str] | type[int] | type[UUID] | type[datetime], ...]

    def read(self, page: PageQuery) -> tuple[Any, ...] | None:
        """The keys below which the page begins, None for the first; raises a problem for what is no cursor of this list."""
        if page.cursor is None:
            return None
        try:
            keys = self._keys(page.cursor)
        except (ValueError, TypeError, InvalidBase64):
            keys = None
        if keys is None:
            raise ProblemError.wrong("query.cursor", "is no cursor of this list; take nextCursor as it was answered")
        return keys

    def _keys(self, cursor: str) -> tuple[Any, ...] | None:
        name, *keys = orjson.loads(urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
        if name != self.name or not all(isinstance(key, str | int) for key in keys):
            return None
        return tuple(_key(kind, key) for kind, key in zip(self.kinds, keys, strict=True))

    def write(self, *keys: str | int | UUID | datetime) -> str:
        """The cursor of the page below these keys."""
        # The driver's own UUIDs are a subclass, and those are not written by themselves.
        plain = [str(key) if isinstance(key, UUID) else key for key in keys]
        return urlsafe_b64encode(orjson.dumps([self.name, *plain])).decode().rstrip("=")

    def page(self, page: PageQuery, rows: Sequence[T], shown: Callable[[T], A], keys: Callable[[T], Sequence[Any]]) -> Listed[A]:
        """The page of `page.wanted` rows that were read."""
        there_is_more = len(rows) > page.limit
        rows = rows[: page.limit]
        return Listed[Any](items=[shown(row) for row in rows], next_cursor=self.write(*keys(rows[-1])) if there_is_more else None)


def _key(kind: type[str] | type[int] | type[UUID] | type[datetime], value: str | int) -> str | int | UUID | datetime:
    if kind is int:
        if isinstance(value, str) or not 0 <= value <= _LARGEST_INTEGER:
            raise ValueError
        return value
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    if kind is UUID:
        return UUID(value)
    if kind is datetime:
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError
        return at
    return value
