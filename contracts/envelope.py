"""CloudEvents 1.0 in binary mode over AMQP 0-9-1, as the RabbitMQ binding of the CloudEvents SDKs writes and reads it.

The body is the JSON data, `content_type` is `datacontenttype`, every other attribute is a `ce-` header, and `traceparent` and
`tracestate` ride beside them. Plain dicts and attributes, no broker library and no pydantic: this runs for every message.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from json import dumps
from typing import Final, NamedTuple, Protocol, Self

SPEC_VERSION: Final = "1.0"
JSON_CONTENT_TYPE: Final = "application/json"
# Of a whole CloudEvent as one JSON document: structured mode.
STRUCTURED_CONTENT_TYPE: Final = "application/cloudevents+json"
MAX_ATTRIBUTE: Final = 255
PERSISTENT: Final = 2

_REQUIRED: Final = frozenset({"ce-specversion", "ce-id", "ce-source", "ce-type"})
_JSON_MEDIA_TYPE: Final = re.compile(r'(application|text)/([a-z0-9.-]+\+)?json\s*(;\s*charset="?utf-?8"?\s*)?', re.IGNORECASE)
# What CloudEvents forbids in a string, and NUL and surrogates are what PostgreSQL cannot store.
_FORBIDDEN: Final = re.compile("[\u0000-\u001f\u007f-\u009f\ud800-\udfff]")
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32}-)[0-9a-f]{32}-(?!0{16}-)[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_TRACESTATE: Final = 512


class EnvelopeError(ValueError):
    """The message's attributes are not the CloudEvent that was expected; the text names attributes, never their values."""


class ReadableProperties(Protocol):
    """What is read of a message's AMQP properties; `Properties` fits, and so do the broker libraries' own types."""

    @property
    def content_type(self) -> object:
        """The media type of the body, or None."""

    @property
    def timestamp(self) -> object:
        """When the message was made, to the second, or None."""

    @property
    def correlation_id(self) -> object:
        """The id of the run or request that the message belongs to, or None."""


class Properties(NamedTuple):
    """The AMQP properties that a message is published with."""

    message_id: str | None = None
    type: str | None = None
    timestamp: datetime | None = None
    correlation_id: str | None = None
    content_type: str | None = JSON_CONTENT_TYPE
    delivery_mode: int = PERSISTENT


@dataclass(frozen=True, slots=True)
class Envelope:
    """The attributes of one message; `id` and `source` together are its identity. `time` is aware, in UTC."""

    id: str
    source: str
    type: str
    time: datetime | None = None
    subject: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    correlation_id: str | None = None
    data_content_type: str = JSON_CONTENT_TYPE

    def to_headers(self) -> dict[str, str]:
        """The AMQP headers."""
        headers = {
            "ce-specversion": SPEC_VERSION,
            "ce-id": self.id,
            "ce-source": self.source,
            "ce-type": self.type,
        }
        if self.time is not None:
            headers["ce-time"] = self.time.isoformat().replace("+00:00", "Z")
        if self.subject is not None:
            headers["ce-subject"] = self.subject
        if self.traceparent is not None:
            headers["traceparent"] = self.traceparent
            if self.tracestate is not None:
                headers["tracestate"] = self.tracestate
        return headers

    def to_properties(self) -> Properties:
        """The AMQP properties: the same identity once more, for tools that know nothing of CloudEvents."""
        return Properties(self.id, self.type, self.time, self.correlation_id, self.data_content_type)

    def to_structured(self, data: bytes) -> bytes:
        """The whole event as one JSON document in UTF-8, around data that is JSON itself; the trace context goes beside it."""
        attributes = {
            "specversion": SPEC_VERSION,
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "time": self.time.isoformat().replace("+00:00", "Z") if self.time is not None else None,
            "subject": self.subject,
            "datacontenttype": self.data_content_type,
        }
        told = dumps(
            {name: value for name, value in attributes.items() if value is not None}, separators=(",", ":"), ensure_ascii=False
        )
        return told[:-1].encode() + b',"data":' + data + b"}"

    @classmethod
    def parse(
        cls,
        headers: Mapping[str, object] | None,
        properties: ReadableProperties,
        expected_type: str,
        *,
        handled_at: str | None = None,
    ) -> Self:
        """Read a message's attributes; raises EnvelopeError, saying what is missing or wrong.

        `handled_at` is the `traceparent` of whoever handles it, below which all that comes of it stands; without one it is the
        message's own.
        """
        attributes = headers or {}
        if not attributes.keys() >= _REQUIRED:
            # The binding's names are lower case, yet some producers pass HTTP's spelling on.
            attributes = {str(name).lower(): value for name, value in attributes.items()}
            if missing := sorted(_REQUIRED - attributes.keys()):
                raise EnvelopeError(f"not a CloudEvent in binary mode: missing {', '.join(missing)}")
        # Compared as they are first: only what differs is worth decoding.
        version, kind = attributes["ce-specversion"], attributes["ce-type"]
        if version != SPEC_VERSION and _text(version, "ce-specversion") != SPEC_VERSION:
            raise EnvelopeError(f"ce-specversion must be {SPEC_VERSION}")
        if kind != expected_type and _text(kind, "ce-type") != expected_type:
            raise EnvelopeError(f"ce-type must be {expected_type} here")
        traceparent = _traceparent(attributes.get("traceparent"))
        return cls(
            _text(attributes["ce-id"], "ce-id"),
            _text(attributes["ce-source"], "ce-source"),
            expected_type,
            _time(attributes.get("ce-time", properties.timestamp)),
            _optional_text(attributes.get("ce-subject"), "ce-subject"),
            handled_at or traceparent,
            _tracestate(attributes.get("tracestate")) if traceparent else None,
            _optional_text(properties.correlation_id, "correlation_id"),
            _json_content_type(properties.content_type),
        )


def trace_context(headers: Mapping[str, object] | None) -> tuple[str | None, str | None]:
    """`traceparent` and `tracestate` of a message, as `Envelope.parse` reads them; never raises."""
    attributes = headers or {}
    if "traceparent" not in attributes and "ce-id" not in attributes:
        attributes = {str(name).lower(): value for name, value in attributes.items()}
    traceparent = _traceparent(attributes.get("traceparent"))
    return traceparent, _tracestate(attributes.get("tracestate")) if traceparent else None


def _text(value: object, name: str) -> str:
    # AMQP clients differ in what they write for a string: a long string, a byte array, or a number for a numeric id.
    if not isinstance(value, str):
        value = _decoded(value, name)
    if not 0 < len(value) <= MAX_ATTRIBUTE:
        raise EnvelopeError(f"{name} must have 1 to {MAX_ATTRIBUTE} characters")
    # isprintable first, being much the faster; it also says no to some characters that are allowed.
    if not value.isprintable() and _FORBIDDEN.search(value):
        raise EnvelopeError(f"{name} must have no control characters")
    return value


def _decoded(value: object, name: str) -> str:
    if isinstance(value, bytes | bytearray):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise EnvelopeError(f"{name} is not UTF-8") from None
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**64:
        return str(value)
    raise EnvelopeError(f"{name} must be a string")


def _optional_text(value: object, name: str) -> str | None:
    return None if value is None or value == "" else _text(value, name)


def _time(value: object) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        # AMQP's own timestamps count from the epoch, so one without an offset is in UTC.
        time = value if value.tzinfo else value.replace(tzinfo=UTC)
    else:
        text = _text(value, "ce-time").upper()
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise EnvelopeError("ce-time must be an RFC 3339 time") from None
        if time.tzinfo is None:
            raise EnvelopeError("ce-time needs its offset from UTC")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise EnvelopeError("ce-time must lie in the years 1 to 9999 in UTC") from None


def _json_content_type(value: object) -> str:
    # CloudEvents reads an absent datacontenttype as JSON.
    if value is None or value == "" or value == JSON_CONTENT_TYPE:
        return JSON_CONTENT_TYPE
    content_type = _text(value, "content_type")
    if content_type.lower().startswith("application/cloudevents"):
        raise EnvelopeError("structured mode is not taken: send the data as the body and the attributes as ce- headers")
    if not _JSON_MEDIA_TYPE.fullmatch(content_type):
        raise EnvelopeError("content_type must be JSON in UTF-8")
    return content_type


def _traceparent(value: object) -> str | None:
    # W3C Trace Context: what cannot be read is as if it were not there, and a new trace starts.
    if isinstance(value, bytes | bytearray):
        value = value.decode("ascii", "replace")
    return value if isinstance(value, str) and _TRACEPARENT.fullmatch(value) else None


def _tracestate(value: object) -> str | None:
    if isinstance(value, bytes | bytearray):
        value = value.decode("ascii", "replace")
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TRACESTATE:
        return None
    return value if value.isascii() and value.isprintable() else None
