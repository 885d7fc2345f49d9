"""Messages of many callers, published together: one write and one wait for those that come at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from typing import Final

from service.clients.amqp_frames import Publishable
from service.clients.broker import Publisher
from service.clients.confirm_channel import UNKNOWN, Outcome
from service.domain.errors import Unavailable
from service.entrypoints.loops.dependency import Dependency

__all__ = ["WindowedPublisher"]

_WINDOW: Final = 256
# Windows in flight; of more the broker gains nothing.
_LANES: Final = 4
_MOST_WAITING: Final = 4096


class WindowedPublisher:
    """A connection of its own, kept open by `run`, for callers that each want the broker's word on one message."""

    def __init__(self, url: str, *, name: str, within: timedelta) -> None:
        self._publisher = Publisher(url, name=name, within=within)
        self.state = Dependency("broker", waits_for=name)
        self._within = within.total_seconds()
        self._waiting: deque[tuple[Publishable, asyncio.Future[Outcome]]] = deque()
        self._windows: set[asyncio.Task[None]] = set()
        self._flushing = False

    @property
    def ready(self) -> bool:
        """Whether the broker answers and does not block."""
        return self.state.ready and not self._publisher.blocked

    async def run(self) -> None:
        """Keep a connection open until cancelled."""
        try:
            while True:
                try:
                    await self._publisher.connect()
                except Unavailable as error:
                    await asyncio.sleep(self.state.down(error))
                    continue
                self.state.up()
                await self._publisher.lost()
                await asyncio.sleep(self.state.down("the connection was lost"))
        finally:
            await self._publisher.close()

    async def publish(self, message: Publishable) -> Outcome:
        """The broker's word on one message; UNKNOWN at once where it blocks or too many wait. The caller sets the time limit."""
        # One window stays in flight while the broker blocks: it finds out when that ends.
        if len(self._waiting) >= _MOST_WAITING or (self._publisher.blocked and self._windows):
            return UNKNOWN
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((message, outcome))
        if not self._flushing:
            self._flushing = True
            # After all that is ready to run now: what came together goes together.
            loop.call_soon(self._flush)
        return await outcome

    def _flush(self) -> None:
        self._flushing = False
        while self._waiting and len(self._windows) < _LANES:
            window: list[tuple[Publishable, asyncio.Future[Outcome]]] = []
            while self._waiting and len(window) < _WINDOW:
                message, outcome = self._waiting.popleft()
                # Who gave up waiting has told the sender to try again.
                if not outcome.done():
                    window.append((message, outcome))
            if window:
                sending = asyncio.create_task(self._send(window), name="webhook window")
                self._windows.add(sending)
                sending.add_done_callback(self._sent)

    def _sent(self, window: asyncio.Task[None]) -> None:
        self._windows.discard(window)
        if not window.cancelled():
            window.result()
        self._flush()

    async def _send(self, window: list[tuple[Publishable, asyncio.Future[Outcome]]]) -> None:
        outcomes: list[Outcome] = [UNKNOWN] * len(window)
        try:
            # A connection that was just lost is often back in a moment.
            async with asyncio.timeout(self._within / 2):
                await self._publisher.opened()
            outcomes = await self._publisher.publish_window([message for message, _ in window])
        except TimeoutError:
            return
        finally:
            for (_, outcome), answer in zip(window, outcomes, strict=True):
                if not outcome.done():
                    outcome.set_result(answer)
