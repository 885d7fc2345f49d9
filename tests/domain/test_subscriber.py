from __future__ import annotations

from typing import get_args

import pytest

from contracts.fields import ChangedField
from service.domain.notifications.subscriber import (
    CHANGED_FIELDS,
    EVERYTHING,
    EventFilter,
    InvalidSubscriber,
    event_filter,
    subscriber_url,
)


def test_the_fields_that_a_filter_knows_are_those_of_the_event() -> None:
    assert set(get_args(ChangedField)) == CHANGED_FIELDS


def test_an_empty_filter_wants_everything() -> None:
    assert EVERYTHING.wants("ADMIN", "removed", ())
    assert event_filter({}) == EVERYTHING


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"reasonCodes": ["ADMIN"]}, True),
        ({"reasonCodes": ["PLAN_CHANGE"]}, False),
        ({"newStates": ["expired", "active"]}, True),
        ({"newStates": ["expired"]}, False),
        ({"changedFields": ["plan", "email"]}, True),
        ({"changedFields": ["phone"]}, False),
        ({"reasonCodes": ["ADMIN"], "newStates": ["active"], "changedFields": ["plan"]}, True),
        ({"reasonCodes": ["ADMIN"], "newStates": ["expired"], "changedFields": ["plan"]}, False),
        ({"reasonCodes": [], "newStates": [], "changedFields": []}, True),
    ],
)
def test_each_list_that_is_given_must_hold(given: dict[str, list[str]], wanted: bool) -> None:
    assert event_filter(given).wants("ADMIN", "active", ("plan", "expiresAt")) is wanted


def test_an_event_that_changed_nothing_that_is_wanted_is_not() -> None:
    assert not EventFilter(changed_fields=frozenset({"plan"})).wants("ADMIN", "active", ())


@pytest.mark.parametrize(
    ("given", "where"),
    [({"reasonCodes": ["BECAUSE"]}, "reasonCodes"), ({"newStates": ["gone"]}, "newStates"), ({"plans": ["gold"]}, "plans")],
)
def test_what_no_event_says_is_no_filter(given: dict[str, list[str]], where: str) -> None:
    with pytest.raises(InvalidSubscriber) as refusal:
        event_filter(given)

    assert refusal.value.where == where


@pytest.mark.parametrize("url", ["https://example.com", "http://10.0.0.1:8080/hooks?key=1", "https://[2001:db8::1]/x"])
def test_an_address_is_kept_as_it_is(url: str) -> None:
    assert subscriber_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com",
        "https://",
        "https://user:pw@example.com/",
        "https://example.com/#top",
        "https://example.com/#",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com/a b",
        "https://exa\nmple.com/",
        "https://exämple.com/",
        "https://example.com\\@evil.example/",
        "https://[::1/",
        "https://example.com/" + "x" * 2048,
        "file:///etc/passwd",
    ],
)
def test_what_is_no_address_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(InvalidSubscriber) as refusal:
        subscriber_url(url)

    assert refusal.value.where == "url"
    assert "pw" not in str(refusal.value)
