from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.domain.directories.delta import Count, Difference, Reading, count_of, must_read_again, next_watermark, withheld
from service.domain.outcome import Outcome, Result

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def reading(keys: int = 10, first: int | None = 10, last: int | None = 10, *, pages: int = 2, keyless: int = 0) -> Reading:
    return Reading(pages=pages, records=keys + keyless, keys=keys, keyless=keyless, first_count=first, last_count=last)


@pytest.mark.parametrize(
    ("found", "gap"),
    [
        (reading(), None),
        (reading(first=None, last=None), None),
        (reading(0, 0, 0), None),
        (reading(9), "the directory says that it has 10 members, and 9 could be read"),
        (reading(11), "the directory says that it has 10 members, and 11 could be read"),
        (reading(first=11), "the directory says that it has 11 and then 10 members, and 10 could be read"),
        (reading(last=11), "the directory says that it has 10 and then 11 members, and 10 could be read"),
        (reading(9, keyless=1), "1 of 10 records have no key that can be read, and could be anybody"),
    ],
)
def test_a_reading_is_complete_or_says_why_not(found: Reading, gap: str | None) -> None:
    assert found.gap == gap


def test_those_who_seem_gone_are_looked_for_again_where_pages_shift_or_counts_disagree() -> None:
    assert must_read_again(reading(), 1, pages_shift=True)
    assert must_read_again(reading(9), 1, pages_shift=False)
    assert not must_read_again(reading(), 1, pages_shift=False)
    assert not must_read_again(reading(pages=1), 1, pages_shift=True)
    assert not must_read_again(reading(9), 0, pages_shift=True)


def test_the_second_reading_decides_unless_the_first_held_somebody_without_a_key() -> None:
    assert withheld(reading(), None) is None
    assert withheld(reading(9), None) is not None
    assert withheld(reading(9), reading()) is None
    assert withheld(reading(), reading(9)) is not None
    assert withheld(reading(9, keyless=1), reading()) is not None


def test_the_watermark_lies_before_what_was_seen_and_before_the_reading_began() -> None:
    overlap = timedelta(minutes=5)
    assert next_watermark(None, NOW - timedelta(days=1), NOW) == NOW - timedelta(days=1) - overlap
    assert next_watermark(None, NOW + timedelta(days=1), NOW) == NOW - overlap
    assert next_watermark(NOW, None, NOW + timedelta(days=1)) == NOW


@pytest.mark.parametrize(
    ("what", "result", "live", "counted"),
    [
        (Difference.ADDED, Result(Outcome.APPLIED, version=1), False, Count.ADDED),
        (Difference.ADDED, Result(Outcome.APPLIED, version=4), False, Count.REACTIVATED),
        (Difference.ADDED, Result(Outcome.APPLIED, version=4), True, Count.UPDATED),
        (Difference.UPDATED, Result(Outcome.APPLIED, version=2), False, Count.UPDATED),
        (Difference.TOUCHED, Result(Outcome.APPLIED, version=2), False, Count.UPDATED),
        (Difference.REACTIVATED, Result(Outcome.APPLIED, version=2), False, Count.REACTIVATED),
        (Difference.LEFT, Result(Outcome.APPLIED, version=2), False, Count.REMOVED),
        (Difference.ABSENT, Result(Outcome.APPLIED, version=2), False, Count.REMOVED),
        (Difference.TOUCHED, Result(Outcome.UNCHANGED), False, Count.VERIFIED),
        (Difference.ABSENT, Result(Outcome.STALE, "x"), False, Count.LEFT_ALONE),
        (Difference.ADDED, Result(Outcome.CONFLICT, "x"), False, Count.CONFLICTING),
        (Difference.ADDED, Result(Outcome.REFUSED, "x"), False, Count.INVALID),
    ],
)
def test_each_result_is_counted_as_what_it_is(what: Difference, result: Result, live: bool, counted: Count) -> None:
    assert count_of(what, result, took_over_live=live) is counted
