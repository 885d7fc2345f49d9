"""What payloads mean: the default mapping, described ones, and what cannot be mapped."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.webhooks.mapping import (
    DEFAULT_MAPPING,
    Ignored,
    InvalidMapping,
    Mapped,
    Unmappable,
    mapped_change,
    webhook_mapping,
)

RECEIVED = datetime(2026, 11, 21, 12, tzinfo=UTC)
STRIPE = webhook_mapping(
    {
        "externalId": "data.object.id",
        "action": "type",
        "actions": {"customer.created": "upsert", "customer.deleted": "remove"},
        "otherActions": "ignore",
        "updatedAt": "created",
        "times": "seconds",
        "states": {"past_due": "suspended", "canceled": "removed"},
        "member": {
            "name": "data.object.name",
            "email": "data.object.emails.0.address",
            "state": "data.object.status",
            "expiresAt": "data.object.period_end",
        },
    }
)


def mapped(payload: dict[str, Any], mapping: Any = DEFAULT_MAPPING) -> Mapped:
    change = mapped_change(mapping, payload, RECEIVED)
    assert isinstance(change, Mapped)
    return change


def default(**given: Any) -> dict[str, Any]:
    return {"id": "ada", "action": "update", "updated_at": "2026-11-01T00:00:00Z"} | given


def stripe(**given: Any) -> dict[str, Any]:
    return {"type": "customer.created", "created": 1793491200, "data": {"object": {"id": "cus_1", "name": "Ada", **given}}}


def test_the_default_payload_is_an_upsert_with_the_fields_that_it_has() -> None:
    change = mapped(default(name="Ada", kennitala="010101-1234", email=None, extra=1))
    assert (change.external_id, change.action, change.updated_at) == ("ada", "upsert", "2026-11-01T00:00:00Z")
    assert change.version == 1793491200_000000
    assert change.member == {"name": "Ada", "nationalId": "010101-1234", "email": None}


def test_a_removal_brings_no_member() -> None:
    change = mapped(default(action="delete", name="Ada"))
    assert (change.action, change.member) == ("remove", None)


def test_a_nested_payload_with_times_in_seconds() -> None:
    change = mapped(stripe(emails=[{"address": "a@example.org"}], status="past_due", period_end=1795083200), STRIPE)
    assert change.external_id == "cus_1"
    assert change.updated_at == datetime(2026, 11, 1, tzinfo=UTC)
    assert change.version == 1793491200_000000
    assert change.member == {
        "name": "Ada",
        "email": "a@example.org",
        "state": "suspended",
        "expiresAt": datetime.fromtimestamp(1795083200, UTC),
    }


def test_an_action_that_means_nothing_here_is_ignored_and_one_that_nobody_decided_on_is_not() -> None:
    assert isinstance(mapped_change(STRIPE, stripe() | {"type": "invoice.paid"}, RECEIVED), Ignored)
    for action in ("explode", None, 7, ["update"]):
        with pytest.raises(Unmappable, match="action: an action that the mapping does not know"):
            mapped(default(action=action))


def test_a_state_that_comes_to_removed_is_a_removal() -> None:
    change = mapped(stripe(status="canceled"), STRIPE)
    assert (change.action, change.member) == ("remove", None)


def test_blank_texts_clear_and_numbers_become_keys() -> None:
    change = mapped(default(id=42, email=" ", phone=""))
    assert change.external_id == "42"
    assert change.member == {"email": None, "phone": None}


def test_without_a_time_of_its_own_the_time_of_receipt_counts() -> None:
    mapping = webhook_mapping({"externalId": "id", "member": {"name": "name"}})
    change = mapped({"id": "a", "name": "Ada"}, mapping)
    assert (change.action, change.updated_at) == ("upsert", RECEIVED)
    assert change.version == int(RECEIVED.timestamp()) * 1_000_000


def test_a_null_on_the_way_clears_and_a_gap_leaves_untouched() -> None:
    mapping = webhook_mapping({"externalId": "id", "member": {"name": "n", "email": "contact.email"}})
    assert mapped({"id": "a", "contact": None}, mapping).member == {"email": None}
    for gap in ({}, {"contact": {}}, {"contact": 7}, {"contact": []}):
        assert mapped({"id": "a", **gap}, mapping).member == {}


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ({"action": "update"}, "updated_at: required"),
        ({"action": "update", "updated_at": "2026-11-01T00:00:00Z"}, "id: required"),
        ({"id": None, "action": "update", "updated_at": "2026-11-01T00:00:00Z"}, "id: required"),
        ({"id": "a", "action": "update", "updated_at": "yesterday"}, "RFC 3339"),
        ({"id": "a", "action": "update", "updated_at": "2026-11-01T00:00:00"}, "with its offset"),
        ({"id": "a", "action": "update", "updated_at": 7}, "RFC 3339"),
    ],
)
def test_what_the_mapping_needs_and_the_payload_lacks_is_named(payload: dict[str, Any], problem: str) -> None:
    with pytest.raises(Unmappable, match=problem):
        mapped(payload)


@pytest.mark.parametrize("created", ["1793491200", 1.5, True, 10**18, -(10**18)])
def test_a_time_is_the_number_that_the_mapping_says(created: object) -> None:
    with pytest.raises(Unmappable, match="time"):
        mapped(stripe() | {"created": created}, STRIPE)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "object", "0", "name"]), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["id", "action", "updated_at", "data", "type", "created", "name"]), JSON))
def test_any_payload_is_mapped_or_refused_with_a_reason(payload: dict[str, Any]) -> None:
    for mapping in (DEFAULT_MAPPING, STRIPE):
        with suppress(Unmappable):
            assert isinstance(mapped_change(mapping, payload | {"action": "update"}, RECEIVED), Mapped | Ignored)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "member says where"),
        ({"externalId": "id", "member": {"colour": "c"}}, "member knows no colour"),
        ({"externalId": "id", "member": {"email": "e"}}, r"member\.name is needed"),
        ({"member": {"name": "n"}}, "externalId says where"),
        ({"externalId": "", "member": {"name": "n"}}, "externalId is a path"),
        ({"externalId": "a..b", "member": {"name": "n"}}, "externalId is a path"),
        ({"externalId": 7, "member": {"name": "n"}}, "externalId is a path"),
        ({"externalId": ".".join("abcdefghijk"), "member": {"name": "n"}}, "at most 10 steps"),
        ({"externalId": "id", "member": {"name": "n"}, "times": "days"}, "times is one of"),
        ({"externalId": "id", "member": {"name": "n"}, "actions": {"a": "explode"}}, "actions maps to"),
        ({"externalId": "id", "member": {"name": "n"}, "actions": ["a"]}, "actions maps texts to texts"),
        ({"externalId": "id", "member": {"name": "n"}, "otherActions": "explode"}, "otherActions is one of"),
        ({"externalId": "id", "member": {"name": "n"}, "colour": 1}, "unknown: colour"),
        ({"externalId": "p.ssn", "member": {"name": "n", "nationalId": "p.ssn"}}, "must not be the national id"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_with_its_reason(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidMapping, match=problem):
        webhook_mapping(settings)


def test_the_fields_of_a_mapping_are_those_of_the_source() -> None:
    assert STRIPE.mapped_fields == ["email", "expires_at", "name", "state"]
