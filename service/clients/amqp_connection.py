"""A connection of one command to the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import ChannelInvalidStateError

from service.domain.errors import Unavailable

__all__ = ["BROKER_ERRORS", "connected", "own_cancellation", "says_closed"]

_SECONDS: Final = 10.0

# What the client library raises where the broker is away, does not answer in time, or refuses.
BROKER_ERRORS: Final = (AMQPError, OSError, TimeoutError)


def says_closed(error: BaseException) -> bool:
    """Whether an error is what the client library raises for a closed connection or channel, a plain RuntimeError among them."""
    return isinstance(error, ChannelInvalidStateError) or (type(error) is RuntimeError and str(error).endswith(" closed"))


@contextmanager
def own_cancellation() -> Iterator[None]:
    """Let CancelledError through only where this task was cancelled: the library raises it for a closed connection too."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        message = "the connection was closed"
        raise ConnectionError(message) from None


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AbstractConnection]:
    """A connection that ends with its block, also where the broker does not answer any more; raises Unavailable."""
    try:
        connection = await aio_pika.connect(url, timeout=_SECONDS)
    except BROKER_ERRORS as error:
        message = f"the broker does not answer ({type(error).__name__})"
        raise Unavailable(message) from None
    try:
        yield connection
    finally:
        # A broker that blocks the connection does not read the farewell; its end of the socket is closed with the process.
        await asyncio.wait({asyncio.ensure_future(connection.close())}, timeout=_SECONDS)
