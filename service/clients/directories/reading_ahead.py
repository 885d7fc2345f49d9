"""Fetching what comes next while the last is worked on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

__all__ = ["reading_ahead"]

T = TypeVar("T")


async def reading_ahead(items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The same items, of which two at most are made before they are asked for; an error comes after the items before it."""
    # One is in the queue, and one waits to be put into it.
    ready: asyncio.Queue[T | None] = asyncio.Queue(1)

    async def read() -> None:
        try:
            async with aclosing(items):
                async for item in items:
                    await ready.put(item)
        finally:
            if not reading.cancelling():
                await ready.put(None)

    reading = asyncio.create_task(read(), name="reading ahead")
    try:
        while (item := await ready.get()) is not None:
            yield item
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
