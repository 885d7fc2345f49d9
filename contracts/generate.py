"""`python -m contracts.generate [--check]`: the JSON Schemas and asyncapi.yaml, from the models and the channels.

Needs PyYAML, which the development environment has and the service does without.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from contracts.channels import CHANNELS, Channel
from contracts.envelope import JSON_CONTENT_TYPE, MAX_ATTRIBUTE, PERSISTENT, SPEC_VERSION
from contracts.fields import RFC3339

CONTRACTS: Final = Path(__file__).resolve().parent
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
AMQP_BINDING: Final = "0.3.0"
_RELAYED: Final = "rollcall relay"
MAKE_AGAIN: Final = "python -m contracts.generate"


class _ContractSchema(GenerateJsonSchema):
    """pydantic's JSON Schema without what would mislead: a default of null where absent and null differ, and titles."""

    schema_dialect = DIALECT

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema(channel: Channel) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a channel's message body."""
    schema = channel.model.model_json_schema(schema_generator=_ContractSchema)
    return {"$schema": DIALECT, "$id": f"urn:rollcall:{channel.schema_name}", **schema}


def example_path(channel: Channel, name: str) -> Path:
    """Where an example of a channel's message body is kept."""
    return CONTRACTS / "examples" / f"{channel.schema_name}.{name}.json"


def _component_schemas() -> dict[str, Any]:
    """Every body and its parts under one name each, as AsyncAPI keeps them."""
    schemas: dict[str, Any] = {}
    for channel in CHANNELS:
        schema = channel.model.model_json_schema(schema_generator=_ContractSchema, ref_template="#/components/schemas/{model}")
        parts = schema.pop("$defs", {})
        schemas |= parts
        schemas[channel.model.__name__] = schema
    return schemas


def _headers(channel: Channel) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": MAX_ATTRIBUTE}
    return {
        "type": "object",
        "required": ["ce-specversion", "ce-id", "ce-source", "ce-type"],
        "properties": {
            "ce-specversion": {"type": "string", "const": SPEC_VERSION},
            "ce-id": {**text, "description": "With ce-source the identity of the message: a repeated one is dropped."},
            "ce-source": text,
            "ce-type": _type(channel),
            "ce-time": {"type": "string", "format": "date-time", "pattern": RFC3339},
            "ce-subject": text,
            "traceparent": {"type": "string", "description": "W3C Trace Context."},
            "tracestate": {"type": "string"},
        },
    }


def _type(channel: Channel) -> dict[str, Any]:
    if channel.type_prefix is None:
        return {"type": "string", "const": channel.message_type}
    return {"type": "string", "pattern": f"^{channel.type_prefix}[A-Z][A-Z0-9_]*$", "description": "Of the body's kind."}


def _example(channel: Channel, name: str) -> dict[str, Any]:
    payload = json.loads(example_path(channel, name).read_bytes())
    headers = {
        "ce-specversion": SPEC_VERSION,
        "ce-id": "0199f3a2-7c1e-7d34-9b51-2f6c8a90e4d7",
        "ce-source": "rollcall" if _RELAYED in channel.producers else "urn:example:source",
        "ce-type": channel.type_of(payload.get("kind")),
        "ce-time": "2026-11-02T09:30:00Z",
    }
    return {"name": name, "headers": headers, "payload": payload}


def _message(channel: Channel) -> dict[str, Any]:
    # A type that differs by kind is nobody's to promise here.
    binding = {"messageType": channel.message_type} if channel.type_prefix is None else {}
    return {
        "name": channel.message_type,
        "title": channel.model.__name__,
        "summary": channel.summary,
        "contentType": JSON_CONTENT_TYPE,
        "headers": _headers(channel),
        "payload": {"$ref": f"#/components/schemas/{channel.model.__name__}"},
        "bindings": {"amqp": {**binding, "bindingVersion": AMQP_BINDING}},
        "examples": [_example(channel, name) for name in channel.examples],
        "x-producers": list(channel.producers),
        "x-consumers": list(channel.consumers),
    }


def _channel(channel: Channel) -> dict[str, Any]:
    described: dict[str, Any] = {
        "address": channel.routing_key,
        "title": channel.message_type,
        "summary": channel.summary,
        "messages": {channel.model.__name__: {"$ref": f"#/components/messages/{channel.model.__name__}"}},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {
                    "name": channel.exchange.name,
                    "type": channel.exchange.kind,
                    "durable": channel.exchange.durable,
                    "autoDelete": False,
                },
                "bindingVersion": AMQP_BINDING,
            }
        },
    }
    if channel.parameters:
        described["parameters"] = {name: {"description": text} for name, text in channel.parameters.items()}
    if channel.queue is not None and channel.consumed:
        # The AMQP binding describes an exchange or a queue, and has no place for arguments.
        described["x-queues"] = [
            {"name": queue.name, "durable": queue.durable, "arguments": dict(queue.arguments)}
            for queue in (channel.queue.main, channel.queue.retry, channel.queue.parked)
        ]
    return described


def _operations() -> dict[str, Any]:
    """What Rollcall itself does: AsyncAPI 3 describes one application, whose `send` is another's `receive`."""
    operations: dict[str, Any] = {}
    for channel in CHANNELS:
        stem = _camel(channel)
        if not channel.consumed:
            continue
        if _by_rollcall(channel.producers):
            operations[f"send{stem[0].upper()}{stem[1:]}"] = {
                "action": "send",
                "channel": {"$ref": f"#/channels/{stem}"},
                "summary": channel.summary,
                "bindings": {
                    "amqp": {"deliveryMode": PERSISTENT, "mandatory": True, "bindingVersion": AMQP_BINDING},
                },
            }
        if _by_rollcall(channel.consumers):
            operations[f"receive{stem[0].upper()}{stem[1:]}"] = {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{stem}"},
                "summary": channel.summary,
                "bindings": {"amqp": {"ack": True, "bindingVersion": AMQP_BINDING}},
            }
    return operations


def _camel(channel: Channel) -> str:
    first, *others = channel.message_type.lower().split("_")
    version = "" if channel.version == 1 else f"V{channel.version}"
    return first + "".join(word.capitalize() for word in others) + version


def _by_rollcall(parties: tuple[str, ...]) -> bool:
    return any(party.startswith("rollcall ") for party in parties)


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0.0 document of every channel."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Rollcall",
            "version": "1.0.0",
            "description": "Upstream changes of members in, one MEMBERSHIP_UPDATED per member version out. Messages are "
            "CloudEvents 1.0 in binary mode: the body is the data, the attributes are ce- headers.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": JSON_CONTENT_TYPE,
        "servers": {
            "broker": {
                "host": "{host}",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "RabbitMQ, as RABBITMQ_URL names it.",
                "variables": {"host": {"default": "localhost:5672"}},
            }
        },
        "channels": {_camel(channel): _channel(channel) for channel in CHANNELS},
        "operations": _operations(),
        "components": {
            "messages": {channel.model.__name__: _message(channel) for channel in CHANNELS},
            "schemas": _component_schemas(),
        },
    }


class _PlainDumper(yaml.SafeDumper):
    """YAML without anchors: a value used twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def generated_files() -> dict[Path, str]:
    """The text of every generated file by its path below contracts/, the same for the same contracts."""
    files = {
        Path("schemas") / f"{channel.schema_name}.json": json.dumps(json_schema(channel), indent=2) + "\n" for channel in CHANNELS
    }
    document: str = yaml.dump(asyncapi(), Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=120)
    files[Path("asyncapi.yaml")] = f"# Written by `{MAKE_AGAIN}`; do not edit.\n{document}"
    return files


def stale_files(root: Path) -> list[Path]:
    """The generated files below `root` that are missing, differ, or belong to no message any more."""
    files = generated_files()
    stale = [path for path, text in files.items() if not (root / path).is_file() or (root / path).read_text("utf-8") != text]
    strays = [found.relative_to(root) for found in (root / "schemas").glob("*.json")]
    return sorted({*stale, *(path for path in strays if path not in files)})


def write_files(root: Path) -> None:
    """Bring the generated files below `root` up to date."""
    files = generated_files()
    (root / "schemas").mkdir(parents=True, exist_ok=True)
    for path in stale_files(root):
        if path in files:
            (root / path).write_text(files[path], "utf-8")
        else:
            (root / path).unlink()


def main(arguments: Sequence[str] | None = None, root: Path = CONTRACTS) -> int:
    """Write the files, or with --check name those that are not up to date; the exit code is 1 when there are any."""
    parser = argparse.ArgumentParser(prog=MAKE_AGAIN, description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file is not up to date")
    stale = stale_files(root)
    if parser.parse_args(arguments).check:
        for path in stale:
            sys.stderr.write(f"contracts/{path.as_posix()} is not up to date: run {MAKE_AGAIN}\n")
        return 1 if stale else 0
    write_files(root)
    for path in stale:
        sys.stdout.write(f"contracts/{path.as_posix()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
