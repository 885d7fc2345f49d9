"""Whatever a directory becomes, a sync that says it succeeded has brought the members to it; and none removes anybody unseen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.clients.directories.source import Health, Page, Source
from service.domain.jobs import JobState
from service.store.connections import DirectoryRow
from tests.sync_rig import Syncs, open_syncs

NAMES = st.sampled_from(["Anna", "Berta", "Čeněk", ""])
PEOPLE = st.dictionaries(st.integers(1, 8), st.tuples(NAMES, st.sampled_from([None, 1, 2, 3, 4, 5])), max_size=8)


@dataclass(frozen=True)
class Made:
    """A directory of these people on pages of three, some records twice, with the count that it says."""

    people: dict[int, tuple[str, int | None]]
    repeated: int
    count: int | None
    supports_since: bool = False
    pages_shift: bool = False

    async def health(self) -> Health:
        return Health(reachable=True, authorised=True, shape=True)

    async def pages(self, since: datetime | None = None) -> AsyncGenerator[Page, None]:
        records: list[dict[str, Any]] = [
            {"id": key, "name": name, "kennitala": None if person is None else f"id{person}", "email": f"{key}@example.com"}
            for key, (name, person) in self.people.items()
        ]
        records += records[: self.repeated]
        pages = [records[start : start + 3] for start in range(0, len(records), 3)] or [[]]
        for number, page in enumerate(pages, 1):
            yield Page(page, self.count, number)


class _Nowhere:
    url = "http://127.0.0.1:1"


DIRECTORIES = st.builds(
    lambda people, repeated, lie: Made(people, repeated, None if lie is None else len(people) + lie),
    PEOPLE,
    st.integers(0, 3),
    st.sampled_from([None, 0, 0, 0, 1]),
)


HISTORIES = st.lists(DIRECTORIES, min_size=1, max_size=4)
# A database of the whole file's: what one example leaves there is nothing to the next.
SHARED = [HealthCheck.function_scoped_fixture]


@settings(max_examples=12, suppress_health_check=SHARED)
@given(directories=HISTORIES)
def test_members_follow_their_directory_or_stay(module_database_url: str, directories: list[Made]) -> None:
    asyncio.run(follow(module_database_url, directories))


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=SHARED)
@given(directories=HISTORIES)
def test_members_follow_their_directory_or_stay_in_many_histories(module_database_url: str, directories: list[Made]) -> None:
    asyncio.run(follow(module_database_url, directories))


async def follow(url: str, directories: list[Made]) -> None:
    async with open_syncs(url, _Nowhere()) as syncs:  # type: ignore[arg-type]  # nobody calls it
        await syncs.fetch("update connections set most_removals = 3, most_removed_percent = 100 returning id")
        for made in directories:
            await check_one(syncs, made)


async def check_one(syncs: Syncs, made: Made) -> None:
    @asynccontextmanager
    async def opened(_: DirectoryRow) -> AsyncIterator[Source]:
        yield made

    syncs.opened = opened  # type: ignore[method-assign,assignment]
    before = await syncs.live()
    foreseen = await syncs.sync(dry_run=True)
    assert await syncs.live() == before
    row = await syncs.sync()
    after = await syncs.live()
    there = {str(key) for key in made.people}
    gone = before - there
    removed = before - after
    log = await syncs.log(row.id)
    # Only who is missing, or whose row has another key now, and only by a snapshot that counts right and within the limits.
    assert removed <= gone
    assert log.removed <= 3
    if made.count not in (None, len(made.people)):
        assert not removed
    if not made.people:
        assert not removed
    if row.state is JobState.SUCCEEDED:
        assert after == there
        names = dict(await syncs.fetch("select external_id, name from members where upstream_state <> 'removed'"))
        assert names == {str(key): name for key, (name, _) in made.people.items()}
        # Once more, and there is nothing to do.
        again = await syncs.sync()
        verified = await syncs.log(again.id)
        assert (verified.verified, verified.added, verified.updated, verified.removed) == (len(made.people), 0, 0, 0)
    elif row.state is JobState.QUARANTINED:
        assert after == before
        assert foreseen.result is not None
        assert "held" in foreseen.result
    else:
        assert row.state is JobState.PARTIAL
