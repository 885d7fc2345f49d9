"""Steps of an action that do not wait for each other: a few at once, and all of them or none to their end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Self

__all__ = ["SideBySide"]


class SideBySide:
    """Up to `most` steps under way at once, within one `async with`.

    The first that fails, or a cancellation, cancels the others, waits until they have ended, and is raised as it is.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = asyncio.Semaphore(most)
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._group.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as failed:
            if error in failed.exceptions:
                # Raised beside the steps, and whatever their cancellation met came of it: it goes on by itself.
                return
            raise failed.exceptions[0] from None

    async def run(self, step: Coroutine[None, None, None], *, alone: bool = False) -> None:
        """Begin a step as soon as there is room; `alone`: after all before it, and answer when it has ended."""
        wanted = self._most if alone else 1
        try:
            for _ in range(wanted):
                await self._free.acquire()
        except asyncio.CancelledError:
            step.close()
            raise
        running = self._group.create_task(self._run(step, wanted))
        # One that is cancelled before it begins would be missed by nobody but the interpreter.
        running.add_done_callback(lambda _: step.close())
        if alone:
            await asyncio.wait([running])

    async def _run(self, step: Coroutine[None, None, None], taken: int) -> None:
        try:
            await step
        finally:
            for _ in range(taken):
                self._free.release()
