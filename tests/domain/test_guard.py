from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.directories.guard import Held, Passed, RemovalLimits, guard_removals

LIMITS = RemovalLimits()


@pytest.mark.parametrize(
    ("live", "removals", "passes"),
    [
        (1_000_000, 500, True),
        (1_000_000, 501, False),
        (10_000, 500, True),
        (10_000, 501, False),
        (9_999, 500, False),
        (120, 6, True),
        (119, 6, False),
        (100, 5, True),
        (5, 5, True),
        (6, 6, False),
        (1, 1, True),
        (0, 0, True),
    ],
)
def test_the_limits_are_these(live: int, removals: int, passes: bool) -> None:
    verdict = guard_removals(live=live, removals=removals, source_is_empty=False, limits=LIMITS)
    assert isinstance(verdict, Passed if passes else Held)


@pytest.mark.parametrize("live", [1, 5, 100])
def test_an_empty_directory_is_held_however_few_there_are(live: int) -> None:
    assert isinstance(guard_removals(live=live, removals=live, source_is_empty=True, limits=LIMITS), Held)


def test_an_empty_directory_over_an_empty_table_is_nothing() -> None:
    assert guard_removals(live=0, removals=0, source_is_empty=True, limits=LIMITS) == Passed()


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 600), st.floats(0, 100), st.integers(0, 20))
def test_whatever_the_limits_more_is_never_passed_where_less_is_held(
    live: int, removals: int, most: int, percent: float, few: int
) -> None:
    limits = RemovalLimits(most=most, most_percent=percent, few=few)
    held = isinstance(guard_removals(live=live, removals=removals, source_is_empty=False, limits=limits), Held)
    one_more = isinstance(guard_removals(live=live, removals=removals + 1, source_is_empty=False, limits=limits), Held)
    assert one_more or not held
    assert held or removals <= most
    assert held or removals <= few or removals * 100 <= percent * live
