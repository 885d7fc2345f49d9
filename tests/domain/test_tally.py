"""Keys in order are distinct: told without keeping them, and never where it is not so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.directories.tally import Tally

Pages = list[list[str | None]]
FEW = st.text(alphabet="0189ab", min_size=1, max_size=3)


def tally(pages: Pages) -> Tally:
    counted = Tally()
    for page in pages:
        counted.add(page, [None] * len(page))
    return counted


@given(st.lists(st.lists(st.none() | FEW, max_size=4), max_size=6))
def test_nothing_that_repeats_a_key_is_in_order(pages: Pages) -> None:
    counted = tally(pages)
    keys = [key for page in pages for key in page if key is not None]
    assert (counted.keys, counted.keyless) == (len(keys), sum(len(page) for page in pages) - len(keys))
    assert not counted.in_order or len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "pages",
    [
        [],
        [["1", "2", "9"], ["10", "11"], ["100"]],
        [["100"], ["10", "11"], ["9", "2", "1"]],
        # Within a page in any order.
        [["2", "1"], [], ["20", None, "10"], ["100"]],
        [["0a1b", "0c2d"], ["9e3f"]],
    ],
)
def test_numbers_and_texts_of_one_length_are_in_order_upwards_and_downwards(pages: Pages) -> None:
    assert tally(pages).in_order


@pytest.mark.parametrize("pages", [[["1", "1"]], [["1", "3"], ["3", "4"]], [["1", "3"], ["2", "4"]], [["1"], ["3"], ["2"]]])
def test_what_repeats_or_overlaps_is_not(pages: Pages) -> None:
    assert not tally(pages).in_order


def test_the_newest_update_of_all_pages_counts_of_keyless_records_too() -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    counted = Tally()
    counted.add(["1", None], [at, at + timedelta(days=2)])
    counted.add(["2", "3"], [None, at + timedelta(days=1)])
    counted.add(["4"], [None])
    assert counted.newest_update == at + timedelta(days=2)
