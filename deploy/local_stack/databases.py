"""Databases on a PostgreSQL server, made and dropped from synchronous code, also inside a running event loop."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode

import asyncpg

from deploy.local_stack.errors import StackUnavailable

_TIMEOUT_SECONDS = 10.0
_URL = re.compile(r"(?P<server>[a-z0-9+]+://[^/?]*)(?:/(?P<name>[^?]*))?(?:\?(?P<query>.*))?", re.DOTALL)

T = TypeVar("T")


def in_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a thread with an event loop of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


def masked(url: str) -> str:
    """Return the URL without its password."""
    server = re.sub(r"(://[^:/@?]*):[^/?]*@", r"\1:***@", url)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", server)


def with_database(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    match = _parts(url)
    query = [(key, value) for key, value in parse_qsl(match["query"] or "") if key not in {"dbname", "database"}]
    return f"{match['server']}/{name}" + (f"?{urlencode(query)}" if query else "")


def create_database(server_url: str, *, template: str | None = None, name: str | None = None) -> str:
    """Make a database (empty, or a copy of the one at the URL `template`) and return its URL.

    Raises:
        StackUnavailable: the server refuses, or does not answer within 10 s.
    """
    chosen = name or f"rollcall_{secrets.token_hex(5)}"
    origin = _quoted(_name(template)) if template else "template0"
    _execute(server_url, f"CREATE DATABASE {_quoted(chosen)} TEMPLATE {origin}")
    return with_database(server_url, chosen)


def drop_database(url: str) -> None:
    """Drop the database at this URL, whoever is connected to it.

    Raises:
        StackUnavailable: the server refuses, or does not answer within 10 s.
    """
    statement = f"DROP DATABASE IF EXISTS {_quoted(_name(url))} WITH (FORCE)"
    try:
        _execute(with_database(url, "postgres"), statement)
    except StackUnavailable:
        # Some servers have no database `postgres`, or let not everybody in; `template1` is always there.
        _execute(with_database(url, "template1"), statement)


def check_server(url: str) -> str:
    """Return the server's version, such as "15.13"; raise StackUnavailable when it does not answer."""

    async def ask() -> str:
        connection = await asyncpg.connect(url, timeout=_TIMEOUT_SECONDS)
        try:
            version: str = await connection.fetchval("SHOW server_version", timeout=_TIMEOUT_SECONDS)
            return version.split()[0]
        finally:
            connection.terminate()

    return _reached(url, ask)


def _execute(url: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url, timeout=_TIMEOUT_SECONDS)
        try:
            await connection.execute(statement, timeout=_TIMEOUT_SECONDS)
        finally:
            await connection.close(timeout=_TIMEOUT_SECONDS)

    _reached(url, run)


def _reached(url: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        return in_thread(work)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = str(error) or type(error).__name__
        raise StackUnavailable(f"PostgreSQL at {masked(url)}: {reason}") from error


def _name(url: str) -> str:
    match = _parts(url)
    query = dict(parse_qsl(match["query"] or ""))
    name = query.get("dbname") or query.get("database") or unquote(match["name"] or "")
    if not name:
        raise StackUnavailable(f"{masked(url)} names no database")
    return name


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _parts(url: str) -> re.Match[str]:
    match = _URL.fullmatch(url)
    if match is None:
        raise StackUnavailable(f"{masked(url)} is no URL; it should look like postgresql://user@host:5432/name")
    return match
