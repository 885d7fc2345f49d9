"""Properties of every message body: any input ends in a model or a ValidationError, and what is written is read again."""

import copy
import json
from datetime import UTC, datetime, timedelta, timezone

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.channels import CHANNELS, MEMBER_CHANGED, MEMBERSHIP_UPDATED, SCHEDULE_TICK
from contracts.fields import ChangedField, MembershipState, ReasonCode
from contracts.generate import json_schema
from contracts.member_changed import MemberChangedV1
from contracts.membership_updated import MembershipUpdatedV1
from contracts.schedule_tick import ScheduleTickV1

SCHEMAS = {
    channel.model: jsonschema.Draft202012Validator(json_schema(channel))
    for channel in (MEMBER_CHANGED, SCHEDULE_TICK, MEMBERSHIP_UPDATED)
}

wire_text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(str.strip)
# The days at both ends of the calendar have no place in every offset.
instants = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001 - Hypothesis takes naive limits and adds the zone
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001 - as above
    timezones=st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
).map(datetime.isoformat)
uuids = st.uuids().map(str)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | wire_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(wire_text, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
members = st.fixed_dictionaries(
    {},
    optional={
        "nationalId": st.none() | wire_text,
        "name": wire_text,
        "email": st.none() | wire_text,
        "phone": st.none() | wire_text,
        "state": st.sampled_from(["pending", "active", "suspended"]),
        "plan": st.none() | wire_text,
        "startsAt": st.none() | instants,
        "expiresAt": st.none() | instants,
        "metadata": st.none() | st.dictionaries(wire_text, json_values, max_size=3),
    },
)
change = {
    "companyId": uuids,
    "connectionId": uuids,
    "externalId": wire_text,
    "version": st.integers(0, 2**63 - 1),
    "updatedAt": instants,
}
member_changes = st.fixed_dictionaries({**change, "action": st.just("upsert"), "member": members}) | (
    st.fixed_dictionaries({**change, "action": st.just("remove")}, optional={"member": st.none()})
)
ticks = st.fixed_dictionaries({"scheduledFor": instants}, optional={"origin": st.none() | wire_text}) | st.just(
    {"sync_type": "scheduled"}
)
states = st.sampled_from(MembershipState.__args__)
events = st.fixed_dictionaries(
    {
        "memberId": uuids,
        "companyId": uuids,
        "connectionId": st.none() | uuids,
        "externalId": st.none() | wire_text,
        "previousState": st.none() | states,
        "newState": states,
        "reasonCode": st.sampled_from(ReasonCode.__args__),
        "changedFields": st.lists(st.sampled_from(ChangedField.__args__), max_size=5),
        "plan": st.none() | wire_text,
        "startsAt": st.none() | instants,
        "expiresAt": st.none() | instants,
        "version": st.integers(1, 2**63 - 1),
        "occurredAt": instants,
    }
)
valid_bodies = st.one_of(
    st.tuples(st.just(MemberChangedV1), member_changes),
    st.tuples(st.just(ScheduleTickV1), ticks),
    st.tuples(st.just(MembershipUpdatedV1), events),
)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(valid_bodies)
def test_what_is_read_is_written_and_read_again_the_same(case):
    model, body = case
    message = model.from_json(json.dumps(body))

    written = message.to_json()

    assert model.from_json(written) == message
    assert model.from_json(written).model_fields_set == message.model_fields_set
    assert json.loads(written).keys() == body.keys()


@given(valid_bodies)
def test_what_the_model_takes_and_writes_fits_the_schema(case):
    model, body = case

    SCHEMAS[model].validate(body)
    SCHEMAS[model].validate(json.loads(model.from_json(json.dumps(body)).to_json()))


@given(st.data())
def test_any_value_in_any_place_is_taken_or_refused_with_a_validation_error(data):
    model, drawn = data.draw(valid_bodies)
    body = copy.deepcopy(drawn)
    places = [body] + [value for value in body.values() if isinstance(value, dict)]
    place = data.draw(st.sampled_from(places))
    if place:
        place[data.draw(st.sampled_from(sorted(place)))] = data.draw(any_json)
    try:
        message = model.from_json(json.dumps(body))
    except ValidationError:
        return
    assert model.from_json(message.to_json()) == message


@given(st.sampled_from(sorted(SCHEMAS, key=lambda model: model.__name__)), st.binary() | st.text())
def test_any_bytes_are_taken_or_refused_with_a_validation_error(model, body):
    with pytest.raises(ValidationError):
        model.from_json(body)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.schema_name)
def test_python_names_are_not_taken_from_the_wire(channel):
    body = dict.fromkeys(channel.model.model_fields, "x")

    with pytest.raises(ValidationError):
        channel.model.from_json(json.dumps(body))


def test_times_are_written_in_utc_with_a_z():
    tick = ScheduleTickV1(scheduled_for=datetime(2026, 11, 2, 9, 30, tzinfo=UTC))

    assert tick.to_json() == b'{"scheduledFor":"2026-11-02T09:30:00Z"}'
