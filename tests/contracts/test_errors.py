import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.errors import MAX_LISTED, describe
from contracts.member_changed import MemberChangedV1, UpstreamMember
from contracts.membership_updated import MembershipUpdatedV1
from contracts.schedule_tick import ScheduleTickV1

MODELS = (MemberChangedV1, ScheduleTickV1, MembershipUpdatedV1, UpstreamMember)
# Nothing of the contracts' own words has these letters, so any that comes out came in.
SECRET = st.text(alphabet="ßþÆЖΩ世", min_size=1, max_size=20)
WIRE_NAMES = sorted({name for model in MODELS for info in model.model_fields.values() if (name := info.alias)})


def described(model, text) -> str:
    with pytest.raises(ValidationError) as refused:
        model.from_json(text)
    return describe(refused.value)


def described_if_refused(model, text) -> str | None:
    try:
        model.from_json(text)
    except ValidationError as error:
        return describe(error)
    return None


def test_every_problem_is_listed_with_its_place():
    text = json.dumps({"externalId": "", "action": "remove", "version": -1, "updatedAt": 5, "member": None})

    assert described(MemberChangedV1, text).split("; ") == [
        "companyId: required",
        "connectionId: required",
        "externalId: string too short (min 1)",
        "version: must be at least 0",
        "updatedAt: must be a string",
    ]


def test_a_long_list_of_problems_is_cut_and_counted():
    text = json.dumps({f"unknown{number}": number for number in range(30)})

    lines = described(MembershipUpdatedV1, text).split("; ")

    assert len(lines) == MAX_LISTED + 1
    assert lines[-1] == f"and {30 + len(MembershipUpdatedV1.model_fields) - MAX_LISTED} more"


def test_an_unknown_field_is_not_named():
    lines = described(MembershipUpdatedV1, '{"Jóna Jónsdóttir": 1}')

    assert "Jón" not in lines


def test_keys_inside_metadata_are_not_named():
    with pytest.raises(ValidationError) as refused:
        UpstreamMember(metadata={"Jóna": object(), 1234567890: "a"})  # type: ignore[dict-item]  # the case

    assert describe(refused.value) == "metadata.*: must be a JSON value; metadata.*: must be a string"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | SECRET,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SECRET | st.sampled_from(WIRE_NAMES), inner, max_size=6),
    max_leaves=12,
)
objects = st.dictionaries(SECRET | st.sampled_from(WIRE_NAMES), json_values, max_size=8)


@given(st.sampled_from(MODELS), json_values | objects)
def test_no_input_value_and_no_unknown_key_comes_out(model, value):
    text = described_if_refused(model, json.dumps(value))

    assert text is None or (text and not set(text) & set("ßþÆЖΩ世"))


@given(st.sampled_from(MODELS), st.sampled_from(WIRE_NAMES), st.integers(10**6, 10**30) | st.text("#%&", min_size=6))
def test_no_value_of_a_known_field_comes_out(model, name, value):
    assert str(value) not in (described_if_refused(model, json.dumps({name: value})) or "")


@given(st.sampled_from(MODELS), st.text())
def test_no_piece_of_what_is_not_json_comes_out(model, text):
    assert described(model, "<" + text) == "not valid JSON"
