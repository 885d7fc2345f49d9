import json
from pathlib import Path

import pytest

from contracts.channels import CHANNELS
from contracts.generate import json_schema
from tests.contracts.schema_compatibility import breaking_changes

BASELINE = Path(__file__).parent / "baseline"


def body(required=("id",), others=None, **properties):
    schema = {"type": "object", "properties": {"id": {"type": "string"}, **properties}, "required": list(required)}
    return schema if others is None else {**schema, "additionalProperties": others}


STATE = {"type": "string", "enum": ["active", "removed"]}
MORE_STATES = {"type": "string", "enum": ["active", "removed", "grace"]}
NULLABLE = {"anyOf": [{"type": "string", "maxLength": 10}, {"type": "null"}]}
NOT_NULL = {"type": "string", "maxLength": 10}
REFERRED = {"$defs": {"S": STATE}, **body(state={"$ref": "#/$defs/S"})}
REFERRED_WIDER = {"$defs": {"S": MORE_STATES}, **body(state={"$ref": "#/$defs/S"})}

WIDER = [
    pytest.param(body(state=STATE), body(state=MORE_STATES), id="enum"),
    pytest.param(REFERRED, REFERRED_WIDER, id="enum behind a reference"),
    pytest.param(body(a={"const": 1}), body(a={"enum": [1, 2]}), id="const becomes enum"),
    pytest.param(body(a=NOT_NULL), body(a=NULLABLE), id="null allowed"),
    pytest.param(body(a={"type": "integer"}), body(a={"type": "number"}), id="integer becomes number"),
    pytest.param(body(a={"type": "string"}), body(a={"type": ["string", "null"]}), id="type list"),
    pytest.param(body(a={"type": "string"}), body(a={}), id="type dropped"),
    pytest.param(body(a={"maxLength": 5}), body(a={"maxLength": 6}), id="longer"),
    pytest.param(body(a={"maxLength": 5}), body(a={}), id="no longest"),
    pytest.param(body(a={"minimum": 1}), body(a={"minimum": 0}), id="smaller"),
    pytest.param(body(a={"pattern": "^a$"}), body(a={}), id="pattern dropped"),
    pytest.param(body(a={"type": "array", "items": STATE}), body(a={"type": "array", "items": MORE_STATES}), id="items"),
    pytest.param(body(others={"type": "integer"}), body(others={"type": ["integer", "string"]}), id="values of other fields"),
    pytest.param(body(others=False), body(), id="other fields allowed"),
]


@pytest.mark.parametrize(("narrow", "wide"), WIDER)
def test_inbound_may_widen_and_may_not_narrow(narrow, wide):
    assert breaking_changes(narrow, wide, "inbound") == []
    assert breaking_changes(wide, narrow, "inbound") != []


@pytest.mark.parametrize(("narrow", "wide"), WIDER)
def test_outbound_may_narrow_and_may_not_widen(narrow, wide):
    assert breaking_changes(wide, narrow, "outbound") == []
    assert breaking_changes(narrow, wide, "outbound") != []


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(body(), body(note={"type": "string"}), id="an optional field more"),
        pytest.param(body(others=False), body(note={"type": "string"}, others=False), id="the same in a closed body"),
        pytest.param(body(a=NULLABLE), body(a={**NULLABLE, "description": "said better"}), id="another description"),
        pytest.param(body(a=NULLABLE), body(a={"anyOf": NULLABLE["anyOf"][::-1]}), id="alternatives reordered"),
        pytest.param(body(state=STATE), REFERRED, id="moved behind a reference"),
    ],
)
def test_what_is_compatible_both_ways_passes(old, new, direction):
    assert breaking_changes(old, new, direction) == []


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(body(note={}), body(), id="a field removed"),
        pytest.param(body(a={"type": "string"}), body(a={"type": "integer"}), id="another type"),
        pytest.param(body(a={"pattern": "^a$"}), body(a={"pattern": "^b$"}), id="another pattern"),
        pytest.param(body(a=NULLABLE), body(a={"anyOf": [{"type": "integer"}, {"type": "null"}]}), id="in one choice"),
        pytest.param({**body(), "anyOf": [{"required": ["a"]}]}, {**body(), "anyOf": [{"required": ["b"]}]}, id="condition"),
    ],
)
def test_what_breaks_both_ways_is_named(old, new, direction):
    assert breaking_changes(old, new, direction) != []


def test_a_new_required_field_breaks_producers_only():
    old, new = body(), body(required=("id", "note"), note={"type": "string"})

    assert breaking_changes(old, new, "inbound") == ["$.note: required now"]
    assert breaking_changes(old, new, "outbound") == []


def test_a_field_that_is_no_longer_always_sent_breaks_consumers_only():
    old, new = body(required=("id", "note"), note={}), body(note={})

    assert breaking_changes(old, new, "outbound") == ["$.note: not always sent any more"]
    assert breaking_changes(old, new, "inbound") == []


def test_a_schema_that_refers_to_itself_ends():
    tree = {"$defs": {"T": body(left={"$ref": "#/$defs/T"})}, "$ref": "#/$defs/T"}

    assert breaking_changes(tree, tree, "inbound") == []


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.schema_name)
def test_released_schemas_change_compatibly_only(channel):
    released = json.loads((BASELINE / f"{channel.schema_name}.json").read_text())

    problems = breaking_changes(released, json_schema(channel), channel.direction)

    assert problems == [], "a breaking change is a new version beside this one"


def test_every_message_has_its_released_schema_and_none_is_withdrawn():
    assert {path.stem for path in BASELINE.glob("*.json")} == {channel.schema_name for channel in CHANNELS}


def test_the_released_schemas_themselves_are_told_apart():
    old = json.loads((BASELINE / "membership_updated.v1.json").read_text())
    new = json.loads(json.dumps(old))
    new["properties"]["newState"]["enum"].append("archived")
    del new["properties"]["plan"]

    assert breaking_changes(old, new, "outbound") == [
        "$.plan: removed",
        "$.newState: 'archived' is not among ['pending', 'active', 'suspended', 'grace', 'expired', 'removed']",
    ]
