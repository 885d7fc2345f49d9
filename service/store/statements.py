"""A connection that times its statements while somebody collects the timings, and knows them by their names."""

from __future__ import annotations

from collections.abc import Coroutine
from time import time_ns
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from service.store.queries import copy_text, statement_name
from service.telemetry.statements import Statement, StatementLog, statement_log

__all__ = ["TimedConnection"]

if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection

T = TypeVar("T")


class TimedConnection(_Connection):
    """The driver's connection; BEGIN and COMMIT, which the driver runs over `execute`, are timed too.

    Not the driver's `query_logger`: it calls back a step of the event loop later, after a COMMIT was answered, tells no start, and
    hands over the values.
    """

    def execute(self, query: str, *args: Any, timeout: float | None = None) -> Coroutine[Any, Any, str]:
        """As the driver's."""
        return _timed(query, super().execute(query, *args, timeout=timeout))

    def copy_records_to_table(self, table_name: str, **options: Any) -> Coroutine[Any, Any, str]:
        """As the driver's."""
        return _timed(copy_text(table_name), super().copy_records_to_table(table_name, **options))

    def fetch(self, query: str, *args: Any, **options: Any) -> Coroutine[Any, Any, Any]:
        """As the driver's."""
        return _timed(query, super().fetch(query, *args, **options))

    def fetchrow(self, query: str, *args: Any, **options: Any) -> Coroutine[Any, Any, Any]:
        """As the driver's."""
        return _timed(query, super().fetchrow(query, *args, **options))

    def fetchval(self, query: str, *args: Any, **options: Any) -> Coroutine[Any, Any, Any]:
        """As the driver's."""
        return _timed(query, super().fetchval(query, *args, **options))


def _timed(query: str, running: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
    log = statement_log()
    return running if log is None else _logged(log, query, running)


async def _logged(log: StatementLog, query: str, running: Coroutine[Any, Any, T]) -> T:
    began = time_ns()
    error: str | None = None
    try:
        return await running
    except BaseException as raised:
        error = type(raised).__name__
        raise
    finally:
        log.add(Statement(statement_name(query), began, time_ns(), error))
