"""Named queries: `sql/<table>.sql` holds them, each under a `-- name:` line, and a test prepares every one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from service.telemetry import names
from service.telemetry.statements import StatementName

__all__ = ["REGISTRY", "Query", "copy_text", "queries", "statement_name"]

_NAME: Final = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
_COMMENT: Final = re.compile(r"--.*$", re.MULTILINE)
# Of a statement that writes in a part of it the write counts; `for update`, `do update` and their like are none.
_WRITE: Final = re.compile(r"\b(insert into|delete from|(?<!for )(?<!do )(?<!key )update|truncate)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Query:
    """One statement and where it stands."""

    table: str
    name: str
    sql: str


# Every query of every module that was imported, for the test that prepares them all.
REGISTRY: Final[dict[tuple[str, str], Query]] = {}

# What a statement is called, by its text; the last are the driver's own.
_NAMES: Final[dict[str, StatementName]] = {
    f"{word};": StatementName(word, word) for word in (names.BEGIN, names.COMMIT, names.ROLLBACK)
}
_SET: Final = StatementName(names.SET, names.SET)
_COPY: Final = "copy "
_OTHER: Final = StatementName(names.OTHER_STATEMENT)


def queries(table: str) -> dict[str, Query]:
    """The queries of `sql/<table>.sql` by name."""
    text = files("service.store").joinpath("sql", f"{table}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    found = {name: Query(table, name, body.strip().rstrip(";")) for name, body in zip(parts[1::2], parts[2::2], strict=True)}
    REGISTRY.update({(table, name): query for name, query in found.items()})
    _NAMES.update({query.sql: _named(query) for query in found.values()})
    return found


def copy_text(table: str) -> str:
    """What stands for the text of a COPY, which the driver writes itself."""
    return _COPY + table


def statement_name(sql: str) -> StatementName:
    """What a statement is called by whoever watches."""
    if sql.startswith(_COPY):
        table = sql.removeprefix(_COPY)
        return StatementName(names.statement_span(table, "copy"), "COPY", table)
    return _NAMES.get(sql) or (_SET if sql.startswith("set local ") else _OTHER)


def _named(query: Query) -> StatementName:
    write = _WRITE.search(_COMMENT.sub("", query.sql))
    operation = write[1].split()[0].upper() if write else "SELECT"
    return StatementName(names.statement_span(query.table, query.name), operation, query.table)
