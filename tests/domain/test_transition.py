from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from service.domain.member import Standing, UpstreamState
from service.domain.transition import Transition, Unchanged, publish, publish_new
from tests.domain.samples import DAY, NOW, member

NO_GRACE = timedelta(0)


@pytest.mark.parametrize(
    ("fact", "value", "name"),
    [
        ("connection_id", None, "connectionId"),
        ("external_id", "ext-9", "externalId"),
        ("national_id", "0101012345", "nationalId"),
        ("name", "Berta", "name"),
        ("email", "b@example.org", "email"),
        ("phone", "+354", "phone"),
        ("metadata", {"a": 1}, "metadata"),
        ("plan", "gold", "plan"),
        ("starts_at", NOW, "startsAt"),
        ("expires_at", NOW + DAY, "expiresAt"),
    ],
)
def test_every_fact_makes_a_version_that_names_it_as_the_contract_does(fact, value, name):
    before = member()
    answer = publish(before, {fact: value}, NOW, NO_GRACE)

    assert isinstance(answer, Transition)
    assert answer.changed == {name: (getattr(before, fact), value)}
    assert (answer.after.version, answer.previous_state, answer.after.state) == (2, Standing.ACTIVE, Standing.ACTIVE)


def test_a_standing_that_changes_with_the_facts_is_named_too():
    before = member()
    answer = publish(before, {"upstream_state": UpstreamState.SUSPENDED}, NOW, NO_GRACE)

    assert isinstance(answer, Transition)
    assert answer.changed["state"] == (Standing.ACTIVE, Standing.SUSPENDED)
    assert answer.changed["upstreamState"] == (UpstreamState.ACTIVE, UpstreamState.SUSPENDED)


def test_the_previous_state_is_the_one_last_published_not_what_time_made_of_it():
    before = member(expires_at=NOW - DAY)
    answer = publish(before, {"email": "a@example.org"}, NOW, NO_GRACE)

    assert isinstance(answer, Transition)
    assert (answer.previous_state, answer.after.state) == (Standing.ACTIVE, Standing.EXPIRED)
    assert set(answer.changed) == {"email", "state"}


def test_an_expiry_met_by_a_change_of_nothing_is_left_to_reconciliation():
    before = member(expires_at=NOW - DAY)

    assert publish(before, {"source_version": 7}, NOW, NO_GRACE) == Unchanged(replace(before, source_version=7))


def test_time_alone_makes_a_version_when_it_made_another_standing():
    before = member(expires_at=NOW - DAY)
    answer = publish(before, {}, NOW, NO_GRACE, time_alone=True)

    assert isinstance(answer, Transition)
    assert answer.changed == {"state": (Standing.ACTIVE, Standing.EXPIRED)}
    assert publish(member(), {}, NOW, NO_GRACE, time_alone=True) == Unchanged(member())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": False}, {"a": 0}),
        ({"a": [0, {"b": 1}]}, {"a": [0, {"b": True}]}),
        ({"a": None}, {}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({}, {"a": {}}),
    ],
)
def test_metadata_that_python_takes_for_equal_and_json_does_not_is_a_change(old, new):
    before = member(metadata=old)

    assert isinstance(publish(before, {"metadata": new}, NOW, NO_GRACE), Transition)


@pytest.mark.parametrize(
    ("old", "new"),
    [({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({"a": 52387526914624190}, {"a": 5.238752691462419e16}), ({"a": True}, {"a": True})],
)
def test_metadata_that_is_the_same_json_is_no_change(old, new):
    before = member(metadata=old)

    assert isinstance(publish(before, {"metadata": new}, NOW, NO_GRACE), Unchanged)


def test_a_new_member_names_only_the_facts_that_it_has():
    known = member()
    facts = {name: getattr(known, name) for name in ("id", "company_id", "connection_id", "external_id", "name", "upstream_state")}
    answer = publish_new({**facts, "email": None, "metadata": {}, "expires_at": NOW - DAY}, NOW, NO_GRACE)

    assert set(answer.changed) == {"connectionId", "externalId", "name", "upstreamState", "expiresAt", "state"}
    assert {old for old, _ in answer.changed.values()} == {None}
    assert (answer.previous_state, answer.after.version, answer.after.state) == (None, 1, Standing.EXPIRED)
