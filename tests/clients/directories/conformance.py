"""What every source must do, whatever is behind it; test_conformance.py runs it over each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from service.clients.directories.source import Source
from service.domain.errors import SourceRefused
from tests.directory_rig import read_all, records


@dataclass(frozen=True)
class Case:
    """A source over a directory of so many members, which are numbered from 1; `refused` opens one with a key that does not fit."""

    name: str
    opened: Callable[[int], AbstractAsyncContextManager[Source]]
    # So many take more than four pages, where there are pages.
    many: int
    counts: bool = False
    paged: bool = True
    refused: Callable[[], AbstractAsyncContextManager[Source]] | None = None
    # How often the directory was asked for a page so far.
    asked: Callable[[], int] | None = None

    def __str__(self) -> str:
        return self.name


Check = Callable[[Case], Awaitable[None]]


def numbers(found: list[Any]) -> list[int]:
    return [int(record["id"]) for record in found]


async def everybody_comes_once_in_order(case: Case) -> None:
    async with case.opened(case.many) as source:
        pages = await read_all(source)
    assert numbers(records(pages)) == list(range(1, case.many + 1))
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    assert (len(pages) > 4) == case.paged
    assert {page.count for page in pages} == ({case.many} if case.counts else {None})


async def records_have_their_fields(case: Case) -> None:
    async with case.opened(3) as source:
        first = records(await read_all(source))[0]
    assert dict(first) | {"id": int(str(first["id"]))} == {
        "id": 1,
        "kennitala": "0201800001",
        "name": "Member 1",
        "email": "member1@example.com",
    }


async def nobody_is_a_page_without_records(case: Case) -> None:
    async with case.opened(0) as source:
        (page,) = await read_all(source)
        health = await source.health()
    assert (list(page.records), page.number) == ([], 1)
    assert health.well


async def a_second_reading_is_like_the_first(case: Case) -> None:
    async with case.opened(case.many) as source:
        assert await read_all(source) == await read_all(source)


async def a_reading_can_be_given_up_and_begun_anew(case: Case) -> None:
    before = asyncio.all_tasks()
    async with case.opened(case.many) as source:
        async with aclosing(source.pages()) as pages:
            await anext(pages)
        assert asyncio.all_tasks() == before
        assert len(records(await read_all(source))) == case.many


async def a_reading_that_is_cancelled_leaves_nothing_behind(case: Case) -> None:
    before = asyncio.all_tasks()
    async with case.opened(case.many) as source:
        reading = asyncio.create_task(read_all(source))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert asyncio.all_tasks() == before


async def health_shows_the_first_page(case: Case) -> None:
    async with case.opened(case.many) as source:
        health = await source.health()
        pages = await read_all(source)
    assert (health.reachable, health.authorised, health.shape, health.problem) == (True, True, True, None)
    assert health.page == pages[0]


async def pages_are_fetched_ahead_but_few(case: Case) -> None:
    if case.asked is None or not case.paged:
        return
    async with case.opened(case.many) as source:
        before = case.asked()
        async with aclosing(source.pages()) as pages:
            await anext(pages)
            # Fetched without being asked for: one is ready, one waits for its place, and the one after that is not fetched.
            async with asyncio.timeout(20):
                while case.asked() - before < 3:
                    await asyncio.sleep(0.02)
            for _ in range(20):
                await asyncio.sleep(0.01)
                assert case.asked() - before == 3
            await anext(pages)
            async with asyncio.timeout(20):
                while case.asked() - before < 4:
                    await asyncio.sleep(0.02)


async def what_cannot_be_asked_since_says_so(case: Case) -> None:
    async with case.opened(1) as source:
        if source.supports_since:
            return
        with pytest.raises(ValueError, match="what changed"):
            await read_all(source, datetime(2026, 1, 1, tzinfo=UTC))


async def a_key_that_does_not_fit_is_refused(case: Case) -> None:
    if case.refused is None:
        return
    async with case.refused() as source:
        health = await source.health()
        assert (health.reachable, health.authorised, health.page) == (True, False, None)
        with pytest.raises(SourceRefused, match="401: it does not accept the key") as refused:
            await read_all(source)
    assert "not-the-key" not in f"{refused.value!r} {health!r}"


async def what_it_shows_of_itself_holds_no_member(case: Case) -> None:
    async with case.opened(3) as source:
        pages, health = await read_all(source), await source.health()
    assert "Member" not in f"{pages!r} {health!r} {source!r}"


CHECKS: list[Check] = [
    everybody_comes_once_in_order,
    records_have_their_fields,
    nobody_is_a_page_without_records,
    a_second_reading_is_like_the_first,
    a_reading_can_be_given_up_and_begun_anew,
    a_reading_that_is_cancelled_leaves_nothing_behind,
    health_shows_the_first_page,
    pages_are_fetched_ahead_but_few,
    what_cannot_be_asked_since_says_so,
    a_key_that_does_not_fit_is_refused,
    what_it_shows_of_itself_holds_no_member,
]
