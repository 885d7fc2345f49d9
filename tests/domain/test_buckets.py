from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from service.domain.buckets import BUCKETS, fair_share


@given(st.sets(st.uuids(), min_size=1, max_size=100))
def test_the_shares_of_all_relays_add_up_to_all_buckets(live: set[UUID]) -> None:
    shares = [fair_share(live, holder) for holder in live]

    assert sum(shares) == BUCKETS
    assert max(shares) - min(shares) <= 1


def test_a_relay_that_is_not_announced_yet_counts_itself() -> None:
    assert fair_share([], uuid4()) == BUCKETS
    assert fair_share([uuid4()], uuid4()) == BUCKETS // 2
