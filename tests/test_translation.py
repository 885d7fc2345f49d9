from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_type_hints
from uuid import UUID

import orjson
import pytest

from contracts.envelope import Envelope
from contracts.member_changed import MemberChangedV1, UpstreamMember
from service.domain.change import UpstreamFields, UpstreamRemoval, UpstreamUpsert
from service.domain.errors import UnfitData
from service.domain.fold import Version
from service.domain.member import UpstreamState
from service.domain.transition import Transition, publish
from service.translation import to_change, to_member_event, to_membership_updated
from tests.domain.samples import DAY, NOW, member, upsert

ENVELOPE = Envelope(id="m1", source="/upstream", type="MEMBER_CHANGED", correlation_id="run-1")
BASE = {
    "companyId": str(UUID(int=1)),
    "connectionId": str(UUID(int=2)),
    "externalId": "ext-1",
    "action": "upsert",
    "version": 5,
    "updatedAt": "2026-03-01T12:00:00Z",
}


def change_of(member: dict[str, Any] | None, **given: Any) -> UpstreamUpsert | UpstreamRemoval:
    body = BASE | given | ({"member": member} if member is not None else {})
    return to_change(MemberChangedV1.from_json(orjson.dumps(body)), ENVELOPE)


def fields_of(member: dict[str, Any]) -> UpstreamFields:
    change = change_of(member)
    assert isinstance(change, UpstreamUpsert)
    return change.fields


def version_of(**altered: Any) -> Version:
    transition = publish(member(), altered, NOW, timedelta(0))
    assert isinstance(transition, Transition)
    return Version(transition, upsert(2))


def test_the_fields_of_the_contract_are_the_fields_of_the_domain() -> None:
    assert set(UpstreamMember.model_fields) == set(get_type_hints(UpstreamFields))


def test_an_upsert_carries_what_was_given_and_nothing_else() -> None:
    change = change_of({"name": "Anna", "email": None, "state": "suspended"})

    assert isinstance(change, UpstreamUpsert)
    assert change.fields == {"name": "Anna", "email": None, "state": UpstreamState.SUSPENDED}
    assert isinstance(change.fields["state"], UpstreamState)
    assert (change.external_id, change.source_version, change.updated_at) == ("ext-1", 5, datetime(2026, 3, 1, 12, tzinfo=UTC))
    assert change.inbox_key is not None
    assert (change.inbox_key.connection_id, change.inbox_key.source, change.inbox_key.message_id) == (
        UUID(int=2),
        "/upstream",
        "m1",
    )
    assert (change.cause.actor, change.cause.correlation_id) == (f"connection:{UUID(int=2)}", "run-1")


def test_a_removal_carries_no_member() -> None:
    assert isinstance(change_of(None, action="remove"), UpstreamRemoval)


@pytest.mark.parametrize(
    ("given", "kept"), [("010101-2345", "0101012345"), (" 0101 01-2345 ", "0101012345"), ("- -", ""), (None, None)]
)
def test_a_national_id_loses_its_hyphens_and_spaces(given: str | None, kept: str | None) -> None:
    assert fields_of({"nationalId": given}) == {"national_id": kept}


def test_the_hash_is_of_the_action_and_the_normalised_member() -> None:
    def hash_of(member: dict[str, Any] | None, **given: Any) -> bytes:
        return change_of(member, **given).source_hash

    assert hash_of({"name": "Anna", "nationalId": "01-2"}) == hash_of({"nationalId": "012", "name": "Anna"}, version=9)
    assert hash_of({"metadata": {"a": 1, "b": 2}}) == hash_of({"metadata": {"b": 2, "a": 1}})
    different = [{}, {"email": None}, {"email": "a"}, {"phone": None}, {"metadata": {"a": 1}}, {"metadata": {"a": True}}]
    hashes = [hash_of(member) for member in different] + [hash_of(None, action="remove")]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        # With these sources say "never"; the driver would make infinities of them.
        ("9999-12-31T23:59:59.9999999Z", datetime.max.replace(tzinfo=UTC) - timedelta.resolution),
        ("0001-01-01T00:00:00Z", datetime.min.replace(tzinfo=UTC) + timedelta.resolution),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_the_ends_of_the_calendar_stay_finite(given: str, kept: datetime) -> None:
    assert fields_of({"startsAt": given, "expiresAt": given}) == {"starts_at": kept, "expires_at": kept}


def test_the_event_tells_of_the_version_without_personal_data() -> None:
    version = version_of(name="Secret Name", plan="gold", expires_at=NOW + DAY)
    row = to_membership_updated(version, NOW)
    body = orjson.loads(row.body)

    assert body["changedFields"] == ["name", "plan", "expiresAt"]
    assert (body["version"], body["plan"], body["previousState"], body["newState"]) == (2, "gold", "active", "active")
    assert "Secret" not in row.body
    assert row.message_id == f"{member().id}:2"
    assert row.headers["ce-id"] == row.message_id


def test_the_audit_has_the_values() -> None:
    row = to_member_event(version_of(name="Berta", plan="gold"), NOW)

    assert (row.before, row.after) == ({"name": "Anna", "plan": None}, {"name": "Berta", "plan": "gold"})
    assert row.changed_fields == ("name", "plan")


def test_a_fact_for_which_the_event_has_no_room_is_unfit_and_not_quoted() -> None:
    with pytest.raises(UnfitData) as caught:
        to_membership_updated(version_of(plan="secret " * 20), NOW)

    assert "plan" in str(caught.value)
    assert "secret" not in str(caught.value)
