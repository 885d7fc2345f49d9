"""What may be told of a body that does not fit its contract: where and why, never what it held."""

from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import pydantic

from contracts.fields import RULE_PREFIX
from contracts.wire import WireModel

MAX_LISTED: Final = 10

# By pydantic's error type. A placeholder is filled from the limits that the contract states, never from the input:
# pydantic's own texts are not used, since some quote characters of the value.
_MESSAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "missing": "required",
        "extra_forbidden": "unknown field",
        "json_invalid": "not valid JSON",
        "model_type": "must be an object",
        "dict_type": "must be an object",
        "tuple_type": "must be an array",
        "string_type": "must be a string",
        "string_unicode": "not valid Unicode",
        "string_too_short": "string too short (min {min_length})",
        "string_too_long": "string too long (max {max_length})",
        "string_pattern_mismatch": "has a form or a character that the contract does not allow",
        "int_type": "must be an integer",
        "greater_than_equal": "must be at least {ge}",
        "less_than_equal": "must be at most {le}",
        "literal_error": "must be {expected}",
        "datetime_type": "must be an RFC 3339 time",
        "uuid_type": "must be a UUID",
        "recursion_loop": "nested too deeply",
        "recursion_depth_exceeded": "nested too deeply",
        "invalid-json-value": "must be a JSON value",
    }
)


@cache
def _known_names() -> frozenset[str]:
    """Every field name of every contract: the only keys that a location may repeat."""

    def models(parent: type[WireModel]) -> Iterator[type[WireModel]]:
        for child in parent.__subclasses__():
            yield child
            yield from models(child)

    return frozenset(
        name
        for model in models(WireModel)
        for field, info in model.model_fields.items()
        for name in (field, info.alias)
        if name is not None
    )


def _location(steps: tuple[int | str, ...]) -> str:
    known = _known_names()
    named: list[str] = []
    for step in steps:
        if named[-1:] == ["metadata"] or (isinstance(step, str) and step not in known):
            # A key of the input may be personal data itself.
            named.append("*")
            break
        named.append(str(step))
    return ".".join(named)


def _message(kind: str, text: str, context: Mapping[str, Any]) -> str:
    if kind.startswith(RULE_PREFIX):
        return text
    return _MESSAGES.get(kind, "does not fit the contract").format_map(context)


def describe(error: pydantic.ValidationError) -> str:
    """What does not fit, as "member.email: string too long (max 320); updatedAt: required", free of input values."""
    listed = [
        ": ".join(filter(None, (_location(one["loc"]), _message(one["type"], one["msg"], one.get("ctx", {})))))
        for one in error.errors(include_url=False, include_input=False)[:MAX_LISTED]
    ]
    if error.error_count() > MAX_LISTED:
        listed.append(f"and {error.error_count() - MAX_LISTED} more")
    return "; ".join(listed)
