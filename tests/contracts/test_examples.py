import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from contracts.channels import CHANNELS
from contracts.errors import describe
from contracts.generate import CONTRACTS, example_path, json_schema

BY_STEM = {channel.schema_name: channel for channel in CHANNELS}
VALID = [(channel, name) for channel in CHANNELS for name in channel.examples]
INVALID = sorted((CONTRACTS / "examples" / "invalid").glob("*.json"))


def channel_of(path: Path):
    return BY_STEM[".".join(path.name.split(".")[:2])]


@pytest.mark.parametrize(("channel", "name"), VALID, ids=lambda value: getattr(value, "schema_name", value))
def test_every_example_fits_its_model_and_its_schema(channel, name):
    text = example_path(channel, name).read_bytes()

    jsonschema.Draft202012Validator(json_schema(channel)).validate(json.loads(text))
    message = channel.model.from_json(text)

    assert channel.model.from_json(message.to_json()) == message


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_every_invalid_example_is_refused_with_its_reason(path):
    example = json.loads(path.read_text())
    channel = channel_of(path)

    with pytest.raises(ValidationError) as refused:
        channel.model.from_json(json.dumps(example["data"]))

    assert describe(refused.value) == example["error"]
    fits_schema = jsonschema.Draft202012Validator(json_schema(channel)).is_valid(example["data"])
    assert fits_schema is example.get("schemaAccepts", False)


def test_every_example_file_belongs_to_a_message():
    found = set((CONTRACTS / "examples").glob("*.json"))

    assert found == {example_path(channel, name) for channel, name in VALID}


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.schema_name)
def test_every_message_has_invalid_examples(channel):
    assert any(channel_of(path) is channel for path in INVALID)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.schema_name)
def test_every_schema_is_json_schema_2020_12(channel):
    jsonschema.Draft202012Validator.check_schema(json_schema(channel))
