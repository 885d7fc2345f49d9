"""The pool and its transactions; the driver's errors leave here as the domain's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias
from uuid import UUID

import asyncpg
import orjson

from service.domain.errors import Contention, Retry, RollcallError, Unavailable, UnfitData, Unforeseen
from service.store.statements import TimedConnection

__all__ = ["PREFER_INDEXES", "Database", "Tx", "translated"]

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    # A connection inside a transaction that its caller opened and will end.
    Tx: TypeAlias = PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    Tx = Pool = Any

# Serialisation failure, deadlock, and a key that somebody else inserted meanwhile: the same transaction may succeed when run again.
# Also a lock that did not come in time: one locked row must not look like a database that is away.
_CONTENTION: Final = frozenset({"40001", "40P01", "23505", "55P03", "57014"})
_LOCK_TIMEOUT: Final = "10s"
# All that is done here looks rows up by their keys. A plan made while a table was small, or when a drained one was vacuumed to no
# pages at all, reads it through for each key, and is kept while it grows: a first import would take time by the square of its size.
PREFER_INDEXES: Final = {"enable_seqscan": "off", "enable_bitmapscan": "off"}
_SET_LOCALLY: Final = "; ".join(f"set local {name} = {value}" for name, value in PREFER_INDEXES.items())
# How jsonb begins in the binary protocol.
_JSONB_VERSION: Final = b"\x01"
_ASK_EVERY_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 2.0
# Values out of range, broken constraints, and what is too large for an index.
_UNFIT: Final = ("22", "23", "54")
# Also a server that has become read-only, that lets us in no more, or whose schema is not this release's: all of it somebody
# mends, and no message is to blame.
_AWAY: Final = ("08", "53", "57", "25006", "25P03", "28", "3D000", "3F000", "42501", "42703", "42883", "42P01")


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turn the driver's errors into the domain's; texts carry codes and the names of rules and kinds, never values."""
    task = asyncio.current_task()
    cancelled = task.cancelling() if task is not None else 0
    try:
        yield
    except (RollcallError, asyncio.CancelledError):
        raise
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
        if task is not None and task.cancelling() > cancelled:
            # Cancelled, and then the rollback failed: a loop that waits errors out would never hear that it was to end.
            raise asyncio.CancelledError from None
        raise _in_our_words(error) from None


def _in_our_words(error: Exception) -> RollcallError:
    if isinstance(error, asyncpg.PostgresError):
        return _translate(error)
    if isinstance(error, asyncpg.InternalClientError | asyncpg.ClientConfigurationError):
        return Unforeseen(f"the database driver failed ({type(error).__name__})")
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        # Raised by the driver's encoder before the server sees anything; its text quotes the value.
        return UnfitData("a value does not fit its column")
    return Unavailable(f"the database does not answer ({type(error).__name__})")


def _translate(error: asyncpg.PostgresError) -> RollcallError:
    code = error.sqlstate or ""
    rule = getattr(error, "constraint_name", None) or getattr(error, "column_name", None) or type(error).__name__
    if code in _CONTENTION:
        return Contention(f"another transaction was in the way ({code} {rule})")
    if code.startswith(_UNFIT):
        return UnfitData(f"the database refuses the data ({code} {rule})")
    if code.startswith(_AWAY):
        return Unavailable(f"the database does not answer ({code})")
    return Unforeseen(f"the database failed in a way that has no rule ({code} {type(error).__name__})")


class Database:
    """A pool of connections to one PostgreSQL."""

    def __init__(self, pool: Pool, *, behind_pooler: bool = False) -> None:
        self._pool = pool
        self._behind_pooler = behind_pooler
        self._answers = True
        self._asked_at = monotonic()

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        name: str,
        size: int = 8,
        behind_pooler: bool = False,
        slowest: timedelta = timedelta(seconds=30),
    ) -> Self:
        """Open a pool of up to `size`; raises Unavailable. `name` shows in pg_stat_activity, `slowest` bounds a statement."""
        async with translated():
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=size,
                timeout=10,
                command_timeout=slowest.total_seconds(),
                connection_class=TimedConnection,
                # A pooler in transaction mode hands each transaction another server connection.
                statement_cache_size=0 if behind_pooler else 200,
                server_settings={}
                if behind_pooler
                else {"application_name": name, "timezone": "UTC", "lock_timeout": _LOCK_TIMEOUT, **PREFER_INDEXES},
                init=_init,
                # Nothing here sets session state outside a transaction: a round trip to reset it would be for nothing.
                reset=_as_it_is,
            )
        return cls(pool, behind_pooler=behind_pooler)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """One transaction: committed at the end, rolled back by any exception; raises Retry errors and UnfitData."""
        async with self._acquired() as connection, connection.transaction():
            if self._behind_pooler:
                await connection.execute(_SET_LOCALLY)
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Tx]:
        """One transaction in which nothing can be written; raises Retry errors."""
        async with self._acquired() as connection, connection.transaction(readonly=True):
            if self._behind_pooler:
                await connection.execute(_SET_LOCALLY)
            yield connection

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Tx]:
        """For one statement, which is a transaction of its own; raises Retry errors and UnfitData."""
        if self._behind_pooler:
            async with self.transaction() as tx:
                yield tx
        else:
            async with self._acquired() as connection:
                yield connection

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator[Tx]:
        async with translated(), self._pool.acquire(timeout=10) as connection:
            try:
                yield connection
            except asyncpg.InternalClientError as error:
                if not connection.is_closed():
                    raise
                # The driver loses its place when a session ends in the middle of an exchange. It is an outage like any other, and
                # no message is to blame: one that went to wait for its retry would be overtaken by a later one of its member.
                message = f"the database ended the session ({type(error).__name__})"
                raise Unavailable(message) from None

    async def answers(self) -> bool:
        """Whether the database answers, as it did at most two seconds ago."""
        now = monotonic()
        if now - self._asked_at > _ASK_EVERY_SECONDS:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS), translated(), self._pool.acquire() as connection:
                    await connection.execute("select")
            except (Retry, TimeoutError):
                self._answers = False
            else:
                self._answers = True
            self._asked_at = now
        return self._answers

    def terminate(self) -> None:
        """Cut every connection: whoever waits for an answer, or for a rollback's, is told Unavailable at once."""
        self._pool.terminate()

    async def close(self, within: timedelta = timedelta(seconds=1)) -> None:
        """Give the connections back to the server, by force when they do not come back in time."""
        try:
            await asyncio.wait_for(self._pool.close(), within.total_seconds())
        except TimeoutError:
            self._pool.terminate()


async def _as_it_is(_: object) -> None:
    return


async def _init(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    # In binary, as COPY takes it.
    await connection.set_type_codec("json", encoder=_dumps, decoder=orjson.loads, schema="pg_catalog", format="binary")
    await connection.set_type_codec("jsonb", encoder=_dumps_jsonb, decoder=_loads_jsonb, schema="pg_catalog", format="binary")


def _dumps(value: object) -> bytes:
    return orjson.dumps(value, default=_plain)


def _dumps_jsonb(value: object) -> bytes:
    return _JSONB_VERSION + orjson.dumps(value, default=_plain)


def _loads_jsonb(value: bytes) -> Any:
    return orjson.loads(memoryview(value)[len(_JSONB_VERSION) :])


def _plain(value: object) -> str:
    # The driver's own UUIDs, which every id that was read is, are a subclass, and those are not written by themselves.
    if isinstance(value, UUID):
        return str(value)
    message = f"{type(value).__name__} has no JSON"
    raise TypeError(message)
