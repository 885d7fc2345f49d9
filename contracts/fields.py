"""The field types of the wire: what a producer may send and what PostgreSQL can keep, decided once."""

import math
from datetime import UTC, datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, JsonValue, StringConstraints
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticSerializationError, core_schema, to_json

# pydantic alone also takes epoch seconds in a string, a space for the `T`, and braces or `urn:` around a UUID. Written
# without lookahead: these patterns are read by Rust here and by ECMAScript or Python wherever the JSON Schema is used.
RFC3339: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
HYPHENATED_UUID: Final = r"^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"
NO_NUL: Final = r"^[^\u0000]*$"
NO_CONTROL: Final = r"^[^\u0000-\u001F\u007F-\u009F]*$"
NOT_BLANK_NO_NUL: Final = r"^[^\u0000]*[^\u0000-\u0020\u00A0][^\u0000]*$"

MAX_BIGINT: Final = 2**63 - 1
MAX_IDENTIFIER: Final = 255
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_METADATA_DEPTH: Final = 8

# Errors of this family carry fixed text only, so `describe` may show their messages.
RULE_PREFIX: Final = "rollcall."


def broken_rule(rule: str, message: str) -> PydanticCustomError:
    """An error whose fixed message may leave the process; never put an input value into it."""
    return PydanticCustomError(f"{RULE_PREFIX}{rule}", "{message}", {"message": message})


def _in_utc(value: datetime) -> datetime:
    # As the database's driver gives them, and so nearly all.
    if value.tzinfo is UTC:
        return value
    if value.tzinfo is None or value.utcoffset() is None:
        raise broken_rule("naive_datetime", "a time needs its offset from UTC")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise broken_rule("datetime_range", "a time must lie in the years 1 to 9999 in UTC") from None


def _from_rfc3339(text: str) -> datetime:
    # Faster than pydantic's own datetime followed by a conversion; the pattern has already refused what is not RFC 3339.
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except ValueError:
        raise broken_rule("datetime", "no such time in the calendar") from None
    except OverflowError:
        raise broken_rule("datetime_range", "a time must lie in the years 1 to 9999 in UTC") from None


class _Rfc3339:
    """An RFC 3339 string with its offset on the wire, an aware datetime in UTC in Python."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_after_validator_function(
                _from_rfc3339, core_schema.str_schema(strict=True, pattern=RFC3339)
            ),
            python_schema=core_schema.no_info_after_validator_function(_in_utc, core_schema.datetime_schema(strict=True)),
            serialization=core_schema.simple_ser_schema("datetime"),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "format": "date-time", "pattern": RFC3339}


class _HyphenatedUuid:
    """The hyphenated form of RFC 9562 on the wire, a UUID in Python."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=core_schema.chain_schema(
                [
                    core_schema.str_schema(strict=True, pattern=HYPHENATED_UUID),
                    core_schema.uuid_schema(strict=False),
                ]
            ),
            python_schema=core_schema.uuid_schema(strict=True),
            serialization=core_schema.simple_ser_schema("uuid"),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "format": "uuid", "pattern": HYPHENATED_UUID}


class NotNull:
    """The field may be absent (None in Python, and not in `model_fields_set`) but null on the wire does not fit."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        if schema["type"] != "nullable":
            raise TypeError("NotNull annotates an optional type")
        inner: CoreSchema = schema["schema"]
        return inner


def _check_metadata_text(text: str) -> None:
    if "\x00" in text:
        raise broken_rule("metadata_nul", "metadata may hold no NUL character")


def _check_metadata_value(value: JsonValue, levels: int) -> None:
    if isinstance(value, str):
        _check_metadata_text(value)
    elif isinstance(value, dict | list):
        if not levels:
            raise broken_rule("metadata_depth", f"metadata may nest {MAX_METADATA_DEPTH} levels")
        if isinstance(value, dict):
            for key in value:
                _check_metadata_text(key)
            value = list(value.values())
        for inner in value:
            _check_metadata_value(inner, levels - 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise broken_rule("metadata_number", "metadata numbers must be finite")
    elif isinstance(value, int) and not -MAX_BIGINT - 1 <= value <= MAX_BIGINT:
        raise broken_rule("metadata_number", "metadata integers must fit 64 bits")


def _check_metadata(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Refuse what jsonb or orjson cannot keep as it is, and what is too large or too deep."""
    _check_metadata_value(metadata, MAX_METADATA_DEPTH)
    try:
        size = len(to_json(metadata))
    except PydanticSerializationError:
        raise broken_rule("metadata_unicode", "metadata must be valid Unicode") from None
    if size > MAX_METADATA_BYTES:
        raise broken_rule("metadata_size", f"metadata may take {MAX_METADATA_BYTES} bytes of JSON")
    return metadata


Instant = Annotated[datetime, _Rfc3339()]
Identifier = Annotated[UUID, _HyphenatedUuid()]
SourceVersion = Annotated[int, Field(ge=0, le=MAX_BIGINT)]
RowVersion = Annotated[int, Field(ge=1, le=MAX_BIGINT)]

ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_IDENTIFIER, pattern=NO_CONTROL)]
NationalId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=NO_CONTROL)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=NOT_BLANK_NO_NUL)]
Email = Annotated[str, StringConstraints(min_length=1, max_length=320, pattern=NO_CONTROL)]
Phone = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=NO_CONTROL)]
Plan = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NO_CONTROL)]
Origin = Annotated[str, StringConstraints(min_length=1, max_length=MAX_IDENTIFIER, pattern=NO_CONTROL)]
Metadata = Annotated[
    dict[str, JsonValue],
    AfterValidator(_check_metadata),
    Field(
        description=f"At most {MAX_METADATA_BYTES} bytes of JSON, {MAX_METADATA_DEPTH} levels deep, finite numbers, "
        "64-bit integers, no NUL characters."
    ),
]

Action = Literal["upsert", "remove"]
UpstreamState = Literal["pending", "active", "suspended"]
MembershipState = Literal["pending", "active", "suspended", "grace", "expired", "removed"]
ReasonCode = Literal["UPSTREAM_CHANGE", "DIRECTORY_SYNC", "EXPIRY_RECONCILIATION", "PLAN_CHANGE", "ADMIN", "DRIFT_REPAIR"]
ChangedField = Literal[
    "nationalId",
    "name",
    "email",
    "phone",
    "state",
    "plan",
    "startsAt",
    "expiresAt",
    "metadata",
    "upstreamState",
    "hold",
    "connectionId",
    "externalId",
]
