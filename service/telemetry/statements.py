"""How long each statement took, noted while somebody collects; never its text's values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Statement", "StatementLog", "StatementName", "collecting_statements", "statement_log"]

# A batch that is split again and again runs more; their number is told in place of them.
_MOST: Final = 300


@dataclass(frozen=True, slots=True)
class StatementName:
    """What a statement is called, the kind of operation, and the table whose file it stands in."""

    summary: str
    operation: str | None = None
    table: str | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that was run, from when to when in nanoseconds of the epoch; `error` is the class of what it raised."""

    name: StatementName
    began: int
    ended: int
    error: str | None


@dataclass(slots=True)
class StatementLog:
    """Statements in the order of their ends, up to 300; how many more there were."""

    statements: list[Statement] = field(default_factory=list)
    omitted: int = 0

    def add(self, statement: Statement) -> None:
        """Note one."""
        if len(self.statements) < _MOST:
            self.statements.append(statement)
        else:
            self.omitted += 1


_LOG: Final[ContextVar[StatementLog | None]] = ContextVar("statement_log", default=None)
statement_log: Final = _LOG.get


@contextmanager
def collecting_statements() -> Iterator[StatementLog]:
    """Note every statement that is run inside, in this task."""
    log = StatementLog()
    token = _LOG.set(log)
    try:
        yield log
    finally:
        _LOG.reset(token)
