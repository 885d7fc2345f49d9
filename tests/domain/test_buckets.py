from datetime import timedelta
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from service.domain.buckets import BUCKETS, fair_share, reconnect_delay, retry_delay


@given(st.sets(st.uuids(), min_size=1, max_size=100))
def test_the_shares_of_all_relays_add_up_to_all_buckets(live: set[UUID]) -> None:
    shares = [fair_share(live, holder) for holder in live]

    assert sum(shares) == BUCKETS
    assert max(shares) - min(shares) <= 1


def test_a_relay_that_is_not_announced_yet_counts_itself() -> None:
    assert fair_share([], uuid4()) == BUCKETS
    assert fair_share([uuid4()], uuid4()) == BUCKETS // 2


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_a_refused_message_waits_between_a_second_and_a_minute(attempts: int, jitter: float) -> None:
    assert timedelta(seconds=1) <= retry_delay(attempts, jitter) <= timedelta(seconds=60)


def test_waits_double_until_they_are_longest() -> None:
    assert [retry_delay(n, 0.5).total_seconds() for n in (1, 2, 3, 4, 6, 7, 30)] == [1, 2, 4, 8, 32, 50, 50]
    assert [reconnect_delay(n, 0.5).total_seconds() for n in (1, 2, 3, 4, 5)] == [0.2, 0.4, 0.8, 1.6, 3.2]


def test_the_longest_waits_are_spread_too() -> None:
    assert [retry_delay(30, jitter).total_seconds() for jitter in (0, 0.25, 0.75)] == [40, 45, 55]
