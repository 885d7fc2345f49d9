"""Looking on until everything has come to rest, and ending what ran beside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

__all__ = ["LOOK_SECONDS", "SETTLE_SECONDS", "end", "raise_what_failed", "rest_of", "until_at_rest"]

LOOK_SECONDS: Final = 0.1
SETTLE_SECONDS: Final = 60.0


async def until_at_rest(look: Callable[[], Awaitable[str]], tasks: Collection[asyncio.Task[None]]) -> str:
    """Look until nothing moves any more; answers what is missing after a minute, or nothing, and raises what a task failed with."""
    deadline, at_rest = time.monotonic() + SETTLE_SECONDS, 0
    while True:
        raise_what_failed(tasks)
        missing = await look()
        at_rest = 0 if missing else at_rest + 1
        # Two looks: the first may fall between a commit and its event.
        if at_rest == 2:
            return ""
        if missing and time.monotonic() > deadline:
            return f"not at rest after {SETTLE_SECONDS:.0f} s ({missing})"
        await asyncio.sleep(LOOK_SECONDS)


def rest_of(counts: Mapping[str, int]) -> str:
    """What is not at rest yet, in words; empty where every count is zero."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count > 0)


def raise_what_failed(tasks: Collection[asyncio.Task[None]]) -> None:
    """Raise what any of the tasks ended with."""
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel what still runs; what it failed with was raised where it mattered, or is overtaken by what is being raised."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
