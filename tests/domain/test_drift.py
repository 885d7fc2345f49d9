"""The rules of drift, by behaviour: the seed's 23 cases, of which the last five need the harness and its database.

Sampling (5): the floor of 20; one in a hundred above it, rounded up; fewer than 20 keys are all taken; an empty key space; without
replacement, over the whole key space. Synthetic drift (6): none; below the limit; at the limit; above it; all of it; errors are not
drift. Promotion (7): one breach does not promote; two do; only once; a clean run resets; promotes anew after a reset; breaches that
are not consecutive do not promote; an inconclusive run changes nothing. Harness (5): tests/actions/test_reconcile_drift.py.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.drift import DriftTally, Judged, Streak, Verdict, family_of, judge, sample_places, sample_size

CLEAN, BREACH, INCONCLUSIVE = Verdict.CLEAN, Verdict.BREACH, Verdict.INCONCLUSIVE


def judged(*verdicts: Verdict) -> tuple[Streak, list[bool]]:
    streak, promotions = Streak(), []
    for verdict in verdicts:
        after = judge(streak, verdict)
        streak = after.streak
        promotions.append(after.promotes)
    return streak, promotions


class TestSampling:
    @pytest.mark.parametrize("population", [20, 21, 100, 1999, 2000])
    def test_the_floor_is_twenty(self, population: int) -> None:
        assert sample_size(population) == 20

    @pytest.mark.parametrize(("population", "size"), [(2001, 21), (2100, 21), (2101, 22), (1_000_000, 10_000), (1_000_001, 10_001)])
    def test_above_the_floor_it_is_one_in_a_hundred_rounded_up(self, population: int, size: int) -> None:
        assert sample_size(population) == size

    @pytest.mark.parametrize("population", [1, 7, 19])
    def test_fewer_than_twenty_are_all_taken(self, population: int) -> None:
        assert sample_places(population, sample_size(population), 0.999) == list(range(population))

    def test_of_nothing_nothing_is_taken(self) -> None:
        assert (sample_size(0), sample_places(0, 0, 0.5)) == (0, [])

    @given(st.integers(0, 50_000), st.floats(0, 1, exclude_max=True))
    def test_places_are_different_and_lie_over_the_whole_key_space(self, population: int, offset: float) -> None:
        size = sample_size(population)
        places = sample_places(population, size, offset)
        assert len(set(places)) == len(places) == size
        assert places == sorted(places)
        for stretch, place in enumerate(places):
            assert stretch * population // size <= place <= -(-(stretch + 1) * population // size)
            assert 0 <= place < population

    def test_every_place_can_be_drawn(self) -> None:
        drawn = {place for step in range(100) for place in sample_places(2000, 20, (step + 0.5) / 100)}
        assert drawn == set(range(2000))

    def test_a_sample_larger_than_its_population_is_a_defect(self) -> None:
        with pytest.raises(ValueError, match="no larger"):
            sample_places(3, 4, 0)


class TestSyntheticDrift:
    @pytest.mark.parametrize(
        ("tally", "verdict", "rate"),
        [
            (DriftTally(compared=20), CLEAN, 0.0),
            (DriftTally(compared=10_000, out_of_sync=9), CLEAN, 0.0009),
            (DriftTally(compared=1000, out_of_sync=1), CLEAN, 0.001),
            (DriftTally(compared=999, out_of_sync=1), BREACH, 1 / 999),
            (DriftTally(compared=20, out_of_sync=20), BREACH, 1.0),
            (DriftTally(compared=20, errors=2), CLEAN, 0.0),
        ],
        ids=["none", "below the limit", "at the limit", "above the limit", "all of it", "errors are not drift"],
    )
    def test_a_run_is_judged_by_the_share_of_what_was_compared(self, tally: DriftTally, verdict: Verdict, rate: float) -> None:
        assert (tally.verdict, tally.rate) == (verdict, rate)

    @pytest.mark.parametrize(
        ("compared", "errors", "verdict"), [(0, 0, INCONCLUSIVE), (0, 5, INCONCLUSIVE), (90, 10, CLEAN), (89, 11, INCONCLUSIVE)]
    )
    def test_nothing_compared_or_too_many_errors_say_nothing(self, compared: int, errors: int, verdict: Verdict) -> None:
        assert DriftTally(compared=compared, errors=errors).verdict is verdict

    def test_too_many_errors_say_nothing_of_drift_either(self) -> None:
        assert DriftTally(compared=80, out_of_sync=80, errors=20).verdict is INCONCLUSIVE

    def test_batches_add_up(self) -> None:
        tally = DriftTally().plus(compared=5, out_of_sync=2).plus(compared=1, errors=3)
        assert tally == DriftTally(compared=6, out_of_sync=2, errors=3)


class TestPromotion:
    @pytest.mark.parametrize(
        ("verdicts", "streak", "promotions"),
        [
            ([BREACH], Streak(1), [False]),
            ([BREACH, BREACH], Streak(2, promoted=True), [False, True]),
            ([BREACH, BREACH, BREACH], Streak(3, promoted=True), [False, True, False]),
            ([BREACH, BREACH, CLEAN], Streak(), [False, True, False]),
            ([BREACH, BREACH, CLEAN, BREACH, BREACH], Streak(2, promoted=True), [False, True, False, False, True]),
            ([BREACH, CLEAN, BREACH], Streak(1), [False, False, False]),
            ([BREACH, INCONCLUSIVE, BREACH], Streak(2, promoted=True), [False, False, True]),
        ],
        ids=[
            "one breach does not promote",
            "two do",
            "only once",
            "a clean run resets",
            "promotes anew after a reset",
            "breaches that are not consecutive do not promote",
            "an inconclusive run changes nothing",
        ],
    )
    def test_two_consecutive_breaches_promote_once_until_a_clean_run(
        self, verdicts: list[Verdict], streak: Streak, promotions: list[bool]
    ) -> None:
        assert judged(*verdicts) == (streak, promotions)

    @given(st.lists(st.sampled_from(Verdict)))
    def test_between_two_promotions_there_is_a_clean_run(self, verdicts: list[Verdict]) -> None:
        _, promotions = judged(*verdicts)
        at = [place for place, promotes in enumerate(promotions) if promotes]
        assert all(CLEAN in verdicts[first:second] for first, second in pairwise(at))

    def test_an_inconclusive_run_does_not_reset_a_promotion(self) -> None:
        assert judge(Streak(2, promoted=True), INCONCLUSIVE) == Judged(Streak(2, promoted=True), promotes=False)


def test_a_family_is_what_stands_before_the_colon() -> None:
    assert (family_of("audit"), family_of("directory:0199")) == ("audit", "directory")
