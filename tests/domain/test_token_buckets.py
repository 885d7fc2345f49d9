from service.domain.token_buckets import TokenBuckets


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    buckets = TokenBuckets(per_second=2, burst=3)
    assert [buckets.take("a", 0) for _ in range(4)] == [True, True, True, False]
    assert [buckets.take("a", 0.5) for _ in range(2)] == [True, False]
    assert [buckets.take("a", 100) for _ in range(4)] == [True, True, True, False]


def test_keys_do_not_share() -> None:
    buckets = TokenBuckets(per_second=1, burst=1)
    assert [buckets.take(key, 0) for key in "aabb"] == [True, False, True, False]


def test_what_is_given_back_can_be_taken_again_and_is_never_more_than_the_burst() -> None:
    buckets = TokenBuckets(per_second=1, burst=1)
    for _ in range(5):
        assert buckets.take("a", 0)
        buckets.give_back("a")
    buckets.give_back("a")
    buckets.give_back("unknown")
    assert [buckets.take("a", 0) for _ in range(2)] == [True, False]


def test_only_so_many_keys_are_remembered() -> None:
    buckets = TokenBuckets(per_second=1, burst=1, most=2)
    for key in "abc":
        buckets.take(key, 0)
    assert len(buckets._buckets) == 2
    assert not buckets.take("c", 0)
