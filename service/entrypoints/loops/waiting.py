"""Waiting for a service that may not answer, and for an event that may not come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from service.domain.errors import Retry
from service.entrypoints.loops.dependency import Dependency

__all__ = ["until_answered", "within"]

T = TypeVar("T")


async def until_answered(state: Dependency, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Ask until there is an answer; Retry errors are waited out, all others are raised."""
    while True:
        try:
            answer = await ask()
        except Retry as error:
            await asyncio.sleep(state.down(error))
        else:
            state.up()
            return answer


async def within(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, or as long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
