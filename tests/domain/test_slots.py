"""Nobody takes what others need: shares of a worker's slots."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from service.domain.notifications.slots import Slots, allot
from service.domain.notifications.subscriber import SubscriberId

SLOTS = Slots(most=20, each=4, failing=5, failing_each=1)
A, B, C = (SubscriberId(UUID(int=number)) for number in (1, 2, 3))
some = st.integers(1, 12).map(lambda number: SubscriberId(UUID(int=number)))


def test_each_gets_its_own_slots_less_those_in_use() -> None:
    assert allot({A: False, B: False}, {A: 3}, SLOTS) == {A: 1, B: 4}


def test_one_that_fails_is_asked_once_at_a_time() -> None:
    assert allot({A: True, B: False}, {}, SLOTS) == {A: 1, B: 4}
    assert allot({A: True}, {A: 1}, SLOTS) == {}


def test_one_that_takes_long_keeps_nothing_of_others() -> None:
    assert allot({A: False, B: False}, {A: 4}, SLOTS) == {B: 4}


def test_what_is_short_is_shared_evenly() -> None:
    assert allot({A: False, B: False, C: False}, {}, Slots(most=5, each=4)) == {A: 2, B: 2, C: 1}


def test_those_that_fail_get_what_the_others_leave() -> None:
    assert allot({A: True, B: False}, {}, Slots(most=3, each=4)) == {B: 3}


def test_many_that_fail_take_their_part_and_no_more() -> None:
    failing = {SubscriberId(UUID(int=number)): True for number in range(100, 200)}

    found = allot({**failing, A: False}, {}, SLOTS)

    assert found.pop(A) == 4
    assert sum(found.values()) == SLOTS.failing


def test_those_that_fail_and_have_nothing_more_due_take_their_part_too() -> None:
    busy = {SubscriberId(UUID(int=number)): 1 for number in range(100, 104)}

    assert allot({A: True, B: True, C: False}, busy, SLOTS, busy) == {A: 1, C: 4}
    # What is known now counts for more than what was so.
    assert allot({A: True, B: True, **dict.fromkeys(busy, False)}, busy, SLOTS, busy).keys() >= {A, B}


@given(st.dictionaries(some, st.booleans()), st.dictionaries(some, st.integers(0, 6)))
def test_no_limit_is_ever_passed(due: dict[SubscriberId, bool], busy: dict[SubscriberId, int]) -> None:
    found = allot(due, busy, SLOTS)

    assert all(more > 0 for more in found.values())
    assert sum(found.values()) <= max(0, SLOTS.most - sum(busy.values()))
    for one, more in found.items():
        assert busy.get(one, 0) + more <= (SLOTS.failing_each if due[one] else SLOTS.each)


@given(st.dictionaries(some, st.booleans(), min_size=1))
def test_whoever_answers_gets_something_where_there_is_room(due: dict[SubscriberId, bool]) -> None:
    found = allot(due, {}, SLOTS)

    assert {one for one, failing in due.items() if not failing} <= found.keys()
