"""What repeats itself is said once a minute, and nothing is left out of the count."""

from __future__ import annotations

from service.telemetry.seldom import Seldom


def test_the_first_time_is_said_at_once_and_the_rest_of_the_minute_is_counted() -> None:
    seldom = Seldom()
    assert [seldom.due("unroutable", now, 256) for now in (100.0, 100.2, 159.9, 160.0, 160.1, 220.0)] == [256, 0, 0, 768, 0, 512]


def test_what_happens_less_than_once_a_minute_is_said_each_time() -> None:
    seldom = Seldom()
    assert [seldom.due("unroutable", now) for now in (0.0, 60.0, 1000.0)] == [1, 1, 1]


def test_each_key_is_said_by_itself() -> None:
    seldom = Seldom()
    assert [seldom.due(key, 0.0) for key in ("unroutable", "rejected", "unroutable")] == [1, 1, 0]


def test_of_too_many_keys_the_one_said_longest_ago_is_forgotten() -> None:
    seldom = Seldom(most=2)
    for now, key in ((0.0, "a"), (1.0, "b"), (60.0, "a")):
        assert seldom.due(key, now) == 1
    assert seldom.due("c", 60.5) == 1
    assert seldom.due("a", 61.0) == 0
    assert seldom.due("b", 61.0) == 1
