"""LISTEN on a connection of its own: a wake-up, never a guarantee."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from service.domain.errors import Unavailable
from service.store.database import translated

__all__ = ["listening"]

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = Any


@asynccontextmanager
async def listening(
    url: str, channel: str, on_notify: Callable[[str], None], *, name: str, within: timedelta = timedelta(seconds=5)
) -> AsyncIterator[Callable[[timedelta], Any]]:
    """Call `on_notify` with each payload; yields `stay(interval)`, which pings and returns never; both raise Unavailable."""
    async with translated():
        connection = await asyncpg.connect(url, timeout=within.total_seconds(), server_settings={"application_name": name})
    try:
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        async with translated():
            await connection.add_listener(channel, lambda _connection, _pid, _channel, payload: on_notify(payload))

        async def stay(interval: timedelta) -> None:
            while True:
                try:
                    await asyncio.wait_for(ended.wait(), interval.total_seconds())
                except TimeoutError:
                    # A connection whose other side vanished without a word looks idle until it is asked something.
                    async with translated():
                        await connection.fetchval("select 1", timeout=within.total_seconds())
                else:
                    message = "the listening connection was closed"
                    raise Unavailable(message)

        yield stay
    finally:
        connection.terminate()
