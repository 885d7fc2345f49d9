from __future__ import annotations

import asyncio

import pytest

from service.actions.side_by_side import SideBySide


class Steps:
    """Steps that wait for their leave, and what became of them."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.cancelled: list[int] = []
        self._leave: dict[int, asyncio.Event] = {}

    async def step(self, number: int, error: Exception | None = None) -> None:
        self.begun.append(number)
        try:
            await self._leave.setdefault(number, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        if error is not None:
            raise error
        self.ended.append(number)

    def let(self, *numbers: int) -> None:
        for number in numbers:
            self._leave.setdefault(number, asyncio.Event()).set()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_are_under_way_than_allowed_and_all_have_ended_at_the_end() -> None:
    steps = Steps()

    async def begin() -> None:
        async with SideBySide(2) as together:
            for number in range(4):
                await together.run(steps.step(number))

    running = asyncio.create_task(begin())
    await settle()
    assert steps.begun == [0, 1]
    steps.let(1)
    await settle()
    assert steps.begun == [0, 1, 2]
    steps.let(0, 2)
    await settle()
    assert not running.done()
    steps.let(3)
    await running
    assert sorted(steps.ended) == [0, 1, 2, 3]


async def test_one_that_goes_alone_waits_for_those_before_it_and_has_ended_when_the_next_begins() -> None:
    steps = Steps()

    async def begin() -> None:
        async with SideBySide(3) as together:
            await together.run(steps.step(0))
            await together.run(steps.step(1))
            await together.run(steps.step(2), alone=True)
            assert steps.ended[-1] == 2
            await together.run(steps.step(3))

    running = asyncio.create_task(begin())
    await settle()
    assert steps.begun == [0, 1]
    steps.let(0)
    await settle()
    assert steps.begun == [0, 1]
    steps.let(1)
    await settle()
    assert steps.begun == [0, 1, 2]
    steps.let(2, 3)
    await running
    assert steps.ended == [0, 1, 2, 3]


@pytest.mark.parametrize("alone", [False, True])
async def test_the_first_error_ends_the_others_and_is_raised_as_it_is(alone: bool) -> None:
    steps = Steps()
    steps.let(1)

    async def begin() -> None:
        async with SideBySide(2) as together:
            if not alone:
                await together.run(steps.step(0))
            await together.run(steps.step(1, LookupError("the first")), alone=alone)
            await together.run(steps.step(2))
            await asyncio.Event().wait()

    with pytest.raises(LookupError, match=r"^the first$"):
        await begin()
    assert steps.ended == []
    assert set(steps.begun) == {1, *steps.cancelled}
    assert alone or 0 in steps.cancelled


async def test_an_error_beside_the_steps_ends_them() -> None:
    steps = Steps()

    async def begin() -> None:
        async with SideBySide(2) as together:
            await together.run(steps.step(0))
            await settle()
            raise LookupError("beside")

    with pytest.raises(LookupError, match=r"^beside$"):
        await begin()
    assert steps.cancelled == [0]


async def test_what_a_step_meets_as_it_is_ended_hides_no_error_beside_it() -> None:
    async def fails_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("the rollback failed")

    async def begin() -> None:
        async with SideBySide(2) as together:
            await together.run(fails_when_cancelled())
            await settle()
            raise LookupError("beside")

    with pytest.raises(LookupError, match=r"^beside$"):
        await begin()


async def test_who_is_cancelled_waits_until_the_steps_have_ended() -> None:
    steps = Steps()

    async def begin() -> None:
        async with SideBySide(1) as together:
            await together.run(steps.step(0))
            await together.run(steps.step(1))

    running = asyncio.create_task(begin())
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    # The second never began, and nobody warns that it was never awaited.
    assert (steps.begun, steps.cancelled, steps.ended) == ([0], [0], [])
