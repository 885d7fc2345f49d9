"""Drift runs over many: each of those who stay is compared once while others come and go, and memory does not grow with them."""

from __future__ import annotations

import pytest

from tests.benchmarks.drift import DriftFigures, fill, measure

# A batch holds 2,000 keys; a run that kept all keys would take 100 MB at a million.
MOST_MB = 40


async def compared(url: str, members: int) -> DriftFigures:
    await fill(url, members)
    found = await measure(url, members)
    assert (found.missed, found.repeated) == (0, 0)
    assert found.full.compared >= members
    assert (found.full.out_of_sync, found.sampled.out_of_sync) == (0, 0)
    assert found.came_and_went > 0
    return found


async def test_who_stays_is_compared_once_while_others_come_and_go(database_url: str) -> None:
    found = await compared(database_url, 10_000)
    assert found.sampled.compared == 100


@pytest.mark.slow
async def test_of_a_million_too_and_in_bounded_memory(database_url: str) -> None:
    found = await compared(database_url, 1_000_000)
    assert found.sampled.compared == 10_000
    assert found.full.grown_mb < MOST_MB
