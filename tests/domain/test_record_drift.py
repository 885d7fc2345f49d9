from __future__ import annotations

from typing import Any

import pytest

from service.domain.directories.record_drift import record_drift
from service.domain.member import Member, Standing, UpstreamState
from tests.domain.samples import DAY, NOW, member, removal, removed, rules, tombstone, upsert

DIFFERS = "the member differs from its source in "


@pytest.mark.parametrize(
    ("found", "fields", "reason"),
    [
        (member(), {"name": "Anna"}, None),
        (member(), {"name": "Ása"}, f"{DIFFERS}name"),
        (member(plan="gold"), {"name": "Anna"}, None),
        (member(plan="gold"), {"name": "Anna", "plan": None}, f"{DIFFERS}plan"),
        (member(), {"name": "Anna", "state": UpstreamState.SUSPENDED}, f"{DIFFERS}upstreamState"),
        # A hold, and time, are not the source's to say.
        (member(hold="unpaid", held_at=NOW, state=Standing.SUSPENDED), {"name": "Anna", "state": UpstreamState.ACTIVE}, None),
        (member(expires_at=NOW - DAY), {"name": "Anna", "expires_at": NOW - DAY}, None),
        (member(metadata={"a": 1}), {"name": "Anna", "metadata": {"a": 1.5}}, f"{DIFFERS}metadata"),
        (member(email="Ada@Example.org"), {"name": "Anna", "email": "ada@example.ORG"}, None),
        (member(email="Ada@Example.org"), {"name": "Anna", "email": "adam@example.org"}, f"{DIFFERS}email"),
        (None, {"name": "Anna"}, "its source has a member that is not known here"),
        (tombstone(), {"name": "Anna"}, "its source has a member that is not known here"),
        (removed(), {"name": "Anna"}, "the member has left here and not at its source"),
    ],
)
def test_a_member_is_compared_by_what_its_source_says(found: Member | None, fields: dict[str, Any], reason: str | None) -> None:
    assert record_drift(found, upsert(1, fields), NOW, rules()) == reason


def test_what_is_not_mapped_does_not_count() -> None:
    found = member(plan="gold", email="a@example.com")
    mapped = rules(mapped_fields=frozenset({"name"}))
    assert record_drift(found, upsert(1, {"name": "Anna", "plan": "basic", "email": None}), NOW, mapped) is None


@pytest.mark.parametrize(("found", "drifts"), [(member(), True), (removed(), False), (tombstone(), False), (None, False)])
def test_who_left_at_the_source_has_left_here(found: Member | None, drifts: bool) -> None:
    assert (record_drift(found, removal(2), NOW, rules()) is not None) is drifts
