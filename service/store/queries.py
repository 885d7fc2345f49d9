"""Named queries: `sql/<table>.sql` holds them, each under a `-- name:` line, and a test prepares every one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

__all__ = ["REGISTRY", "Query", "queries"]

_NAME: Final = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Query:
    """One statement and where it stands."""

    table: str
    name: str
    sql: str


# Every query of every module that was imported, for the test that prepares them all.
REGISTRY: Final[dict[tuple[str, str], Query]] = {}


def queries(table: str) -> dict[str, Query]:
    """The queries of `sql/<table>.sql` by name."""
    text = files("service.store").joinpath("sql", f"{table}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    found = {name: Query(table, name, body.strip().rstrip(";")) for name, body in zip(parts[1::2], parts[2::2], strict=True)}
    REGISTRY.update({(table, name): query for name, query in found.items()})
    return found
