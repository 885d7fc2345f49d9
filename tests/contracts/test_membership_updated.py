import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from pydantic import ValidationError

from contracts.membership_updated import MembershipUpdatedV1

EVENT = {
    "member_id": UUID("0199f3a1-44d0-7b22-a6c3-91e8f2d4b703"),
    "company_id": UUID("0199f3a0-1b2c-7a10-8f00-5d2e6c7b8a91"),
    "connection_id": None,
    "external_id": None,
    "previous_state": None,
    "new_state": "active",
    "reason_code": "ADMIN",
    "changed_fields": ("name", "state"),
    "plan": None,
    "starts_at": None,
    "expires_at": datetime(2026, 12, 31, 23, 59, 59, 7, tzinfo=UTC),
    "version": 1,
    "occurred_at": datetime(2026, 11, 2, 9, 30, tzinfo=UTC),
}


def test_every_field_leaves_null_or_not():
    assert json.loads(MembershipUpdatedV1(**EVENT).to_json()) == {
        "memberId": "0199f3a1-44d0-7b22-a6c3-91e8f2d4b703",
        "companyId": "0199f3a0-1b2c-7a10-8f00-5d2e6c7b8a91",
        "connectionId": None,
        "externalId": None,
        "previousState": None,
        "newState": "active",
        "reasonCode": "ADMIN",
        "changedFields": ["name", "state"],
        "plan": None,
        "startsAt": None,
        "expiresAt": "2026-12-31T23:59:59.000007Z",
        "version": 1,
        "occurredAt": "2026-11-02T09:30:00Z",
    }


@pytest.mark.parametrize("field", sorted(EVENT))
def test_no_field_may_be_left_out(field):
    with pytest.raises(ValidationError):
        MembershipUpdatedV1(**{name: value for name, value in EVENT.items() if name != field})


@pytest.mark.parametrize("personal", ["name", "email", "phone", "national_id", "metadata", "nationalId", "firstName"])
def test_nothing_personal_can_be_put_in(personal):
    with pytest.raises(ValidationError):
        MembershipUpdatedV1(**EVENT, **{personal: "Ari"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 0),
        ("version", True),
        ("new_state", None),
        ("new_state", "archived"),
        ("reason_code", "OTHER"),
        ("changed_fields", ("nickname",)),
        ("occurred_at", "2026-11-02T09:30:00Z"),
        ("member_id", "0199f3a1-44d0-7b22-a6c3-91e8f2d4b703"),
    ],
)
def test_what_the_contract_does_not_know_is_refused(field, value):
    with pytest.raises(ValidationError):
        MembershipUpdatedV1(**EVENT | {field: value})
