"""Calls that block for as long as something outside likes, as those of the system's resolver: in threads that nothing waits for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from threading import Lock, Thread
from typing import Any, Final, TypeVar

__all__ = ["BlockingCalls"]

_MOST_THREADS: Final = 128

T = TypeVar("T")


class BlockingCalls:
    """Up to so many at once; whoever asks for what is being asked already shares the answer.

    An executor is waited for when the process exits, and those of an event loop have so few threads that some calls that hang keep
    all others waiting. These threads are daemons, and end when there is nothing to do.
    """

    def __init__(self, most: int = _MOST_THREADS) -> None:
        self._most = most
        self._running: dict[tuple[asyncio.AbstractEventLoop, Hashable], asyncio.Future[Any]] = {}
        # These two are the threads' as well.
        self._lock = Lock()
        self._queued: deque[Callable[[], None]] = deque()
        self._threads = 0

    async def call(self, key: Hashable, function: Callable[[], T]) -> T:
        """What the function returns or raises; the key says which calls are the same. Giving up waiting disturbs nobody else's."""
        loop = asyncio.get_running_loop()
        future = self._running.get((loop, key))
        if future is None:
            future = self._running[loop, key] = loop.create_future()
            future.add_done_callback(partial(self._ended, (loop, key)))
            self._start(partial(self._answer, loop, key, future, function))
        answer: T = await asyncio.shield(future)
        return answer

    def _start(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._queued.append(work)
            if self._threads >= self._most:
                return
            self._threads += 1
        try:
            Thread(target=self._work, name="blocking call", daemon=True).start()
        except RuntimeError:
            # The system has no more of them; those that there are take it, or the next that starts.
            with self._lock:
                self._threads -= 1

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queued:
                    self._threads -= 1
                    return
                work = self._queued.popleft()
            work()

    def _answer(self, loop: asyncio.AbstractEventLoop, key: Hashable, future: asyncio.Future[T], function: Callable[[], T]) -> None:
        told: Callable[[], None]
        try:
            told = partial(_tell, future, function())
        except Exception as error:  # noqa: BLE001  # it is whoever waits that it concerns
            told = partial(_fail, future, error)
        try:
            loop.call_soon_threadsafe(told)
        except RuntimeError:
            # The loop was closed, and nobody waits.
            self._running.pop((loop, key), None)

    def _ended(self, key: tuple[asyncio.AbstractEventLoop, Hashable], future: asyncio.Future[Any]) -> None:
        self._running.pop(key, None)
        if not future.cancelled():
            # Where everybody gave up waiting nobody asks for it.
            future.exception()


def _tell(future: asyncio.Future[T], answer: T) -> None:
    if not future.done():
        future.set_result(answer)


def _fail(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
