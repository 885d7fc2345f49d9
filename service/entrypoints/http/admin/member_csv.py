"""Members as CSV (RFC 4180), which spreadsheets open without running anything in it."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import datetime
from io import StringIO
from typing import Final

import orjson
from pydantic.alias_generators import to_camel

from service.store.member_views import MemberView

__all__ = ["MEDIA_TYPE", "csv_header", "csv_rows"]

MEDIA_TYPE: Final = "text/csv; charset=utf-8; header=present"
_COLUMNS: Final = (
    "id",
    "connection_id",
    "external_id",
    "national_id",
    "name",
    "email",
    "phone",
    "state",
    "upstream_state",
    "hold",
    "plan",
    "starts_at",
    "expires_at",
    "removed_at",
    "version",
    "created_at",
    "metadata",
)
# What spreadsheets take for the beginning of a formula, also behind blanks and in full width.
_FORMULA: Final = frozenset("=+-@＝＋－＠")  # noqa: RUF001  # they are meant
_CONTROL: Final = frozenset("\t\r\n")


def csv_header() -> bytes:
    """The line of the names."""
    return _written([[to_camel(column) for column in _COLUMNS]])


def csv_rows(members: Iterable[MemberView]) -> bytes:
    """A line each."""
    return _written([_cell(getattr(member, column)) for column in _COLUMNS] for member in members)


def _written(rows: Iterable[list[str]]) -> bytes:
    buffer = StringIO(newline="")
    csv.writer(buffer, lineterminator="\r\n").writerows(rows)
    return buffer.getvalue().encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode() if value else ""
    return _harmless(str(value))


def _harmless(text: str) -> str:
    """With an apostrophe before what would be run as a formula; a telephone number that begins with a plus has one too."""
    if text[:1] in _CONTROL or text.lstrip()[:1] in _FORMULA:
        return f"'{text}"
    return text
