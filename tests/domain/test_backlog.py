from uuid import uuid4

import pytest

from service.domain.backlog import Backlog

NOW = 100.0
LATER = 200.0


@pytest.fixture
def backlog() -> Backlog:
    backlog = Backlog(ready_limit=10)
    backlog.hold(1, fence=1, held_until=LATER)
    backlog.hold(2, fence=1, held_until=LATER)
    return backlog


def test_a_key_in_flight_is_not_taken_again(backlog: Backlog) -> None:
    key = uuid4()
    backlog.find(1, key, 5, 5)
    assert [taken.order_key for taken in backlog.take(10, NOW)] == [key]

    backlog.find(1, key, 6, 6)

    assert backlog.take(10, NOW) == []


def test_a_key_with_more_rows_goes_behind_the_others(backlog: Backlog) -> None:
    hot, other = uuid4(), uuid4()
    backlog.find(1, hot, 1, 9)
    backlog.find(2, other, 5, 5)
    (first,) = backlog.take(1, NOW)

    backlog.published(first, 1)

    assert [key.order_key for key in backlog.take(10, NOW)] == [other, hot]
    assert first.floor == 1


def test_a_row_found_while_its_key_is_in_flight_is_not_forgotten(backlog: Backlog) -> None:
    key = uuid4()
    backlog.find(1, key, 1, 1)
    (taken,) = backlog.take(1, NOW)
    backlog.find(1, key, 2, 2)

    backlog.published(taken, 1)

    assert [key.last for key in backlog.take(1, NOW)] == [2]


def test_a_key_without_more_rows_is_forgotten(backlog: Backlog) -> None:
    backlog.find(1, uuid4(), 1, 1)
    (taken,) = backlog.take(1, NOW)

    backlog.published(taken, 1)

    assert backlog.known == 0


def test_the_lowest_row_of_a_new_key_is_looked_for_everywhere(backlog: Backlog) -> None:
    backlog.find(1, uuid4(), 10, 20)

    assert [taken.floor for taken in backlog.take(1, NOW)] == [0]


def test_a_row_below_the_floor_lowers_it(backlog: Backlog) -> None:
    key = uuid4()
    backlog.find(1, key, 10, 20)
    (taken,) = backlog.take(1, NOW)
    backlog.published(taken, 10)

    backlog.find(1, key, 4, 4)

    assert [(taken.floor, taken.last) for taken in backlog.take(1, NOW)] == [(3, 20)]


def test_nothing_is_taken_when_the_lease_may_have_lapsed(backlog: Backlog) -> None:
    backlog.find(1, uuid4(), 1, 1)
    backlog.hold(2, fence=1, held_until=LATER + 10)
    held = uuid4()
    backlog.find(2, held, 2, 2)

    assert [key.order_key for key in backlog.take(10, LATER)] == [held]


def test_a_lost_bucket_takes_its_ready_keys_along(backlog: Backlog) -> None:
    backlog.find(1, uuid4(), 1, 1)
    backlog.lose(1)

    assert backlog.ready == 0
    backlog.find(1, uuid4(), 2, 2)
    assert backlog.ready == 0


def test_a_bucket_under_a_new_fence_is_read_from_the_start(backlog: Backlog) -> None:
    backlog.buckets[1].watermark = 50

    backlog.hold(1, fence=2, held_until=LATER)

    assert backlog.buckets[1].watermark == 0


def test_a_bucket_held_for_longer_keeps_its_watermark(backlog: Backlog) -> None:
    backlog.buckets[1].watermark = 50

    backlog.hold(1, fence=1, held_until=LATER + 10)

    assert (backlog.buckets[1].watermark, backlog.buckets[1].held_until) == (50, LATER + 10)


def test_a_shed_bucket_is_busy_until_its_last_message_is_settled(backlog: Backlog) -> None:
    backlog.find(1, uuid4(), 1, 9)
    (taken,) = backlog.take(1, NOW)
    backlog.shed(1)
    assert backlog.is_busy(1)
    assert not backlog.is_busy(2)

    backlog.published(taken, 1)

    assert not backlog.is_busy(1)
    assert backlog.take(10, NOW) == []


def test_a_bucket_that_is_kept_after_all_is_read_from_the_start(backlog: Backlog) -> None:
    backlog.buckets[1].watermark = 50
    backlog.shed(1)
    assert 1 not in {bucket.number for bucket in backlog.unread()}

    backlog.keep(1)

    assert backlog.buckets[1].watermark == 0
    assert 1 in {bucket.number for bucket in backlog.unread()}


def test_keys_put_back_come_before_all_others(backlog: Backlog) -> None:
    first, second = uuid4(), uuid4()
    backlog.find(1, first, 1, 1)
    taken = backlog.take(1, NOW)
    backlog.find(1, second, 2, 2)

    backlog.put_back(taken)

    assert [key.order_key for key in backlog.take(10, NOW)] == [first, second]


def test_a_retry_is_news_once(backlog: Backlog) -> None:
    key = uuid4()

    assert backlog.retry(1, key, 5)
    assert not backlog.retry(1, key, 9)

    (taken,) = backlog.take(10, NOW)
    assert (taken.is_retry, taken.last) == (True, 9)


def test_a_key_that_was_retried_goes_on_as_any_other(backlog: Backlog) -> None:
    backlog.retry(1, uuid4(), 9)
    (taken,) = backlog.take(1, NOW)

    backlog.published(taken, 5)

    assert [(key.floor, key.is_retry) for key in backlog.take(1, NOW)] == [(5, False)]


def test_of_a_full_window_retries_get_a_fourth() -> None:
    backlog = Backlog(ready_limit=1000)
    backlog.hold(1, fence=1, held_until=LATER)
    for row in range(100):
        backlog.retry(1, uuid4(), row)
        backlog.find(1, uuid4(), row, row)

    assert [key.is_retry for key in backlog.take(40, NOW)] == [False] * 30 + [True] * 10


def test_retries_fill_what_other_keys_leave_of_a_window(backlog: Backlog) -> None:
    backlog.find(1, uuid4(), 1, 1)
    for row in range(5):
        backlog.retry(1, uuid4(), row)

    assert [key.is_retry for key in backlog.take(4, NOW)] == [False, True, True, True]


def test_retries_take_no_room_of_other_keys_and_are_bounded_themselves() -> None:
    backlog = Backlog(ready_limit=1000, retries=3)
    backlog.hold(1, fence=1, held_until=LATER)

    assert [backlog.retry(1, uuid4(), row) for row in range(5)] == [True, True, True, False, False]
    assert (backlog.room, backlog.retry_room) == (1000, 0)


def test_more_retries_are_allowed_while_they_get_through_and_few_while_they_do_not() -> None:
    backlog = Backlog(ready_limit=1000, retries=100)
    allowed = []
    for confirmed, refused in ((0, 100), (100, 0), (20, 100), (200, 0), (0, 400), (0, 0), (0, 0), (0, 0)):
        backlog.count_retries(confirmed, refused)
        allowed.append(backlog.retry_allowance)

    assert allowed == [100, 200, 400, 500, 250, 125, 100, 100]


def test_a_retry_put_back_stays_one_and_a_lost_bucket_takes_it_along(backlog: Backlog) -> None:
    backlog.retry(1, uuid4(), 1)
    backlog.put_back(backlog.take(1, NOW))
    assert [key.is_retry for key in backlog.take(1, NOW)] == [True]

    backlog.retry(1, uuid4(), 1)
    backlog.lose(1)

    assert backlog.ready == 0


def test_a_round_of_the_sweep_ends_with_its_last_bucket_and_another_begins(backlog: Backlog) -> None:
    backlog.buckets[1].watermark = backlog.buckets[2].watermark = 50
    backlog.buckets[1].is_swept, backlog.buckets[2].swept = True, 30
    assert [bucket.number for bucket in backlog.unswept()] == [2]

    backlog.buckets[2].is_swept = True

    assert [(bucket.number, bucket.swept) for bucket in backlog.unswept()] == [(1, 0), (2, 0)]


def test_room_counts_what_is_ready(backlog: Backlog) -> None:
    for row in range(12):
        backlog.find(1, uuid4(), row, row)

    assert backlog.room == 0
    backlog.take(4, NOW)
    assert backlog.room == 2
