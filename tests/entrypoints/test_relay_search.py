from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from service.domain.backlog import Backlog
from service.entrypoints.loops.dependency import Dependency
from service.entrypoints.loops.relay_search import Search
from service.store.outbox import Committed
from tests.relay_rig import open_database


@pytest.fixture
def backlog() -> Backlog:
    backlog = Backlog(ready_limit=2)
    backlog.hold(7, fence=1, held_until=1e9)
    return backlog


@pytest.fixture
async def search(database_url: str, backlog: Backlog) -> AsyncIterator[Search]:
    async with open_database(database_url) as database:
        yield Search(
            database,
            backlog,
            name="test",
            database_state=Dependency("database", waits_for="test"),
            at_least_every=timedelta(seconds=60),
            ready_limit=2,
        )


async def test_rows_that_a_notification_names_are_ready_without_a_search(search: Search, backlog: Backlog) -> None:
    key, elsewhere = uuid4(), uuid4()
    search.take_note([Committed(7, key, 10), Committed(7, key, 11), Committed(8, elsewhere, 12)])

    assert search.found.is_set()
    assert not search.awaits_discovery
    (taken,) = backlog.take(10, now=0)
    assert (taken.order_key, taken.last, taken.floor) == (key, 11, 0)
    assert not backlog.knows(elsewhere)


async def test_rows_for_which_there_is_no_room_are_left_to_a_search(search: Search, backlog: Backlog) -> None:
    keys = [uuid4() for _ in range(3)]
    search.take_note([Committed(7, key, number) for number, key in enumerate(keys)])

    assert [key.order_key for key in backlog.take(10, now=0)] == keys[:2]
    assert search.awaits_discovery


async def test_a_key_that_is_known_needs_no_room(search: Search, backlog: Backlog) -> None:
    first, second = uuid4(), uuid4()
    search.take_note([Committed(7, first, 1), Committed(7, second, 2), Committed(7, first, 3)])

    assert not search.awaits_discovery
    assert [key.last for key in backlog.take(10, now=0)] == [3, 2]
