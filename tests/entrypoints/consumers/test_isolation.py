"""Who is let in beside whom, and in which order."""

from __future__ import annotations

import asyncio

from service.entrypoints.consumers.isolation import Isolation


class Handlers:
    """Handlers that stay inside until they are told to leave, and the order in which they came in."""

    def __init__(self) -> None:
        self.isolation = Isolation()
        self.entered: list[str] = []
        self._leaves: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, *names: str) -> None:
        """A name in capitals wants to be alone."""
        for name in names:
            self._leaves[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._handle(name))
        await self.settle()

    async def leave(self, *names: str) -> None:
        for name in names:
            self._leaves[name].set()
        await self.settle()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def _handle(self, name: str) -> None:
        async with self.isolation.alone() if name.isupper() else self.isolation.together():
            self.entered.append(name)
            await self._leaves[name].wait()


async def test_one_alone_waits_for_those_inside_and_keeps_later_ones_out() -> None:
    handlers = Handlers()
    await handlers.start("a", "b", "C", "d", "e")
    assert handlers.entered == ["a", "b"]
    await handlers.leave("a")
    assert handlers.entered == ["a", "b"]
    await handlers.leave("b")
    assert handlers.entered == ["a", "b", "C"]
    await handlers.leave("C")
    assert handlers.entered == ["a", "b", "C", "d", "e"]


async def test_several_alone_go_one_by_one() -> None:
    handlers = Handlers()
    await handlers.start("A", "B", "c")
    assert handlers.entered == ["A"]
    await handlers.leave("A")
    assert handlers.entered == ["A", "B"]
    await handlers.leave("B")
    assert handlers.entered == ["A", "B", "c"]


async def test_who_gives_up_waiting_is_in_nobodys_way() -> None:
    handlers = Handlers()
    await handlers.start("a", "B", "c")
    await handlers.cancel("B")
    assert handlers.entered == ["a", "c"]
    await handlers.start("D")
    await handlers.leave("a", "c")
    assert handlers.entered == ["a", "c", "D"]


async def test_who_is_cancelled_inside_or_as_it_is_let_in_leaves() -> None:
    handlers = Handlers()
    await handlers.start("A", "B", "c")
    await handlers.cancel("A")
    assert handlers.entered == ["A", "B"]
    # Let in and cancelled before it could run.
    handlers._leaves["B"].set()
    await asyncio.sleep(0)
    handlers._tasks["c"].cancel()
    await handlers.settle()
    await handlers.start("D")
    assert handlers.entered[-1] == "D"
