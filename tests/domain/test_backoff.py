from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from service.domain.backoff import Backoff

BACKOFF = Backoff(timedelta(seconds=1), timedelta(seconds=60))
DURATIONS = st.timedeltas(timedelta(milliseconds=1), timedelta(hours=1))


@given(DURATIONS, DURATIONS, st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_every_wait_lies_between_the_first_and_the_longest(one: timedelta, other: timedelta, failures: int, jitter: float) -> None:
    backoff = Backoff(min(one, other), max(one, other))

    assert backoff.first <= backoff.after(failures, lambda: jitter) <= backoff.longest


def seconds(failures: int, jitter: float) -> float:
    return BACKOFF.after(failures, lambda: jitter).total_seconds()


def test_waits_double_until_they_are_longest() -> None:
    assert [seconds(n, 0) for n in (1, 2, 3, 5, 6, 10**9)] == [1, 2, 4, 16, 30, 30]


def test_the_first_and_the_longest_waits_are_spread() -> None:
    assert [seconds(1, jitter) for jitter in (0, 0.25, 0.75)] == [1, 1.25, 1.75]
    assert [seconds(30, jitter) for jitter in (0, 0.25, 0.75)] == [30, 37.5, 52.5]


def test_what_failed_together_does_not_come_back_together() -> None:
    assert len({BACKOFF.after(30) for _ in range(20)}) > 1
