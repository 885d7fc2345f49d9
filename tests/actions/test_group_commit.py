from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest

from service.actions.group_commit import GroupCommit
from service.domain.backoff import Backoff
from service.domain.change import Change
from service.domain.errors import Unavailable, Unforeseen
from service.domain.outcome import Outcome, Result
from service.telemetry.metric_names import APPLY_BATCH_SIZE, CHANGES, Stage
from service.telemetry.metrics import Metrics
from tests.domain.samples import upsert


class Desk:
    """Applies nothing, writes down every batch, and fails as it is told."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.poison: str | None = None
        self.away = 0
        self.open = asyncio.Event()
        self.open.set()

    async def apply(self, changes: Sequence[Change]) -> list[Result]:
        names = [change.external_id for change in changes]
        self.batches.append(names)
        await self.open.wait()
        if self.away:
            self.away -= 1
            raise Unavailable("away")
        if self.poison in names:
            raise Unforeseen(f"cannot do {self.poison}")
        return [Result(Outcome.APPLIED, name) for name in names]


@asynccontextmanager
async def running(desk: Desk, **options: Any) -> AsyncIterator[GroupCommit]:
    changes = GroupCommit(desk.apply, **options)
    task = asyncio.create_task(changes.run())
    try:
        yield changes
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def submitted(changes: GroupCommit, *names: str) -> list[asyncio.Task[Result]]:
    """One submission each, in this order, under the number in the name."""
    return [asyncio.create_task(changes.submit(upsert(1, external_id=name), order=int(name))) for name in names]


async def held(desk: Desk, changes: GroupCommit) -> asyncio.Task[Result]:
    """A first change that keeps the transaction open until `desk.open` is set, so that what follows waits together."""
    desk.open.clear()
    (first,) = submitted(changes, "0")
    while not desk.batches:
        await asyncio.sleep(0)
    return first


async def let_them_queue() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_arrives_during_a_commit_is_committed_together_as_the_next() -> None:
    desk, metrics = Desk(), Metrics((Stage.APPLY,))
    async with running(desk, metrics=metrics) as changes:
        first = await held(desk, changes)
        rest = submitted(changes, "1", "2", "3")
        await let_them_queue()
        desk.open.set()
        results = await asyncio.gather(first, *rest)

    assert desk.batches == [["0"], ["1", "2", "3"]]
    assert [result.reason for result in results] == ["0", "1", "2", "3"]
    assert metrics.counted(CHANGES) == {("applied",): 4}
    assert metrics.counted(APPLY_BATCH_SIZE) == {(): 2}


async def test_the_order_given_counts_and_not_the_order_of_submission() -> None:
    desk = Desk()
    async with running(desk) as changes:
        first = await held(desk, changes)
        rest = submitted(changes, "3", "1", "2")
        await let_them_queue()
        desk.open.set()
        results = await asyncio.gather(first, *rest)

    assert desk.batches[1:] == [["1", "2", "3"]]
    assert [result.reason for result in results] == ["0", "3", "1", "2"]


async def test_a_batch_has_a_limit() -> None:
    desk = Desk()
    async with running(desk, most=2) as changes:
        first = await held(desk, changes)
        rest = submitted(changes, "1", "2", "3", "4", "5")
        await let_them_queue()
        desk.open.set()
        await asyncio.gather(first, *rest)

    assert desk.batches == [["0"], ["1", "2"], ["3", "4"], ["5"]]


async def test_a_change_that_fails_does_not_fail_its_neighbours() -> None:
    desk = Desk()
    desk.poison = "2"
    async with running(desk) as changes:
        first = await held(desk, changes)
        rest = submitted(changes, "1", "2", "3")
        await let_them_queue()
        desk.open.set()
        answers = await asyncio.gather(first, *rest, return_exceptions=True)
        (later,) = submitted(changes, "4")
        assert (await later).outcome is Outcome.APPLIED

    assert [type(answer).__name__ for answer in answers] == ["Result", "Result", "Unforeseen", "Result"]
    assert desk.batches == [["0"], ["1", "2", "3"], ["1"], ["2"], ["3"], ["4"]]


async def test_while_the_database_is_away_changes_are_held_and_applied_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Backoff(timedelta(milliseconds=5), timedelta(milliseconds=40))
    monkeypatch.setattr("service.actions.group_commit.WHILE_AWAY", quick)
    desk = Desk()
    desk.away = 3
    async with running(desk) as changes:
        (first,) = submitted(changes, "1")
        while len(desk.batches) < 2:
            await asyncio.sleep(0.001)
        assert not changes.available
        assert not first.done()
        (second,) = submitted(changes, "2")
        assert [result.reason for result in await asyncio.gather(first, second)] == ["1", "2"]
        assert changes.available

    # The one that was underway stays first, whatever arrived meanwhile.
    assert desk.batches == [["1"]] * 4 + [["2"]]


async def test_who_gives_up_waiting_is_not_applied_and_nobody_else_is_held_up() -> None:
    desk = Desk()
    async with running(desk) as changes:
        first = await held(desk, changes)
        gone, also_gone, stays = submitted(changes, "1", "2", "3")
        await let_them_queue()
        gone.cancel()
        also_gone.cancel()
        await let_them_queue()
        desk.open.set()
        results = await asyncio.gather(first, stays)

    assert [result.reason for result in results] == ["0", "3"]
    assert desk.batches == [["0"], ["3"]]


async def test_who_gives_up_during_its_commit_disturbs_nothing() -> None:
    desk = Desk()
    async with running(desk) as changes:
        first = await held(desk, changes)
        first.cancel()
        (second,) = submitted(changes, "1")
        await let_them_queue()
        desk.open.set()

        assert (await second).reason == "1"

    assert first.cancelled()


async def test_when_all_who_waited_have_given_up_the_next_is_served() -> None:
    desk = Desk()
    async with running(desk) as changes:
        first = await held(desk, changes)
        (gone,) = submitted(changes, "1")
        await let_them_queue()
        gone.cancel()
        await let_them_queue()
        desk.open.set()
        await first
        (later,) = submitted(changes, "2")
        assert (await asyncio.wait_for(later, 5)).reason == "2"

    assert desk.batches == [["0"], ["2"]]


async def test_a_cancelled_run_answers_nobody() -> None:
    desk = Desk()
    async with running(desk) as changes:
        first = await held(desk, changes)

    assert not first.done()
    first.cancel()
