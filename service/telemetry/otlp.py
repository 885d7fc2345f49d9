"""Spans as OTLP writes them (opentelemetry/proto/collector/trace/v1, protobuf), at a third of what the SDK's own writing costs.

That makes a message object of each attribute's value, of each attribute, of each link and of each span, to copy every one into the
next; in the exporter's thread, but under the interpreter's one lock, and so in the worker's time. All that is written here is bytes
put side by side. What a span of ours cannot have, such as events, is not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.trace import SpanContext, SpanKind

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["SpanEncoder"]

_MASK: Final = (1 << 64) - 1
# Field numbers and wire types of opentelemetry.proto.trace.v1.Span, as their tags are written.
_TIMES: Final = Struct("<BQBQ")
_STARTED, _ENDED = 0x39, 0x41
_FLAGS: Final = Struct("<I")
# In the high bits: that it is known whether the parent, or what is linked, is remote; and that it is.
_KNOWN, _REMOTE = 0x100, 0x200
_KINDS: Final = {
    SpanKind.INTERNAL: 1,
    SpanKind.SERVER: 2,
    SpanKind.CLIENT: 3,
    SpanKind.PRODUCER: 4,
    SpanKind.CONSUMER: 5,
}


class SpanEncoder:
    """Writes requests of one process, whose spans all have its resource and scope."""

    def __init__(self) -> None:
        self._frame: tuple[bytes, bytes, bytes, bytes] | None = None

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        """An ExportTraceServiceRequest; the spans have attributes of text and whole numbers, and no events."""
        if not spans:
            return b""
        if self._frame is None:
            self._frame = _frame(spans[0])
        resource, resource_schema, scope, scope_schema = self._frame
        written = b"".join([_message(b"\x12", _span(span)) for span in spans])
        return _message(b"\x0a", resource + _message(b"\x12", scope + written + scope_schema) + resource_schema)


def _frame(span: ReadableSpan) -> tuple[bytes, bytes, bytes, bytes]:
    """What stands around the spans, as the SDK writes it: there is one in a request."""
    (group,) = encode_spans([span]).resource_spans
    (scoped,) = group.scope_spans
    return (
        _message(b"\x0a", group.resource.SerializeToString()),
        _text(b"\x1a", group.schema_url),
        _message(b"\x0a", scoped.scope.SerializeToString()),
        _text(b"\x1a", scoped.schema_url),
    )


def _span(span: ReadableSpan) -> bytes:
    context, parent = span.get_span_context(), span.parent
    if context is None:
        raise ValueError("a span that is sent has a place in a trace")
    parts = [
        b"\x0a\x10",
        context.trace_id.to_bytes(16, "big"),
        b"\x12\x08",
        context.span_id.to_bytes(8, "big"),
    ]
    if context.trace_state:
        parts.append(_text(b"\x1a", ",".join([f"{key}={value}" for key, value in context.trace_state.items()])))
    if parent is not None:
        parts += (b"\x22\x08", parent.span_id.to_bytes(8, "big"))
    parts += (
        _named(span.name, span.kind),
        _TIMES.pack(_STARTED, span.start_time or 0, _ENDED, span.end_time or 0),
        *[_attribute(key, value) for key, value in (span.attributes or {}).items()],
        *[_link(link.context) for link in span.links],
    )
    if span.dropped_attributes:
        parts += (b"\x50", _varint(span.dropped_attributes))
    if span.dropped_links:
        parts += (b"\x70", _varint(span.dropped_links))
    description = span.status.description
    status = _text(b"\x12", description) if description else b""
    if code := span.status.status_code.value:
        status += b"\x18" + _varint(code)
    parts += (b"\x7a", _varint(len(status)), status, b"\x85\x01", _FLAGS.pack(_flags(parent)))
    return b"".join(parts)


@cache
def _named(name: str, kind: SpanKind) -> bytes:
    """Of names there are few: those of routes, queues and statements."""
    return _text(b"\x2a", name) + b"\x30" + _varint(_KINDS[kind])


def _attribute(key: str, value: object) -> bytes:
    if isinstance(value, str):
        raw = value.encode()
        held = b"\x0a" + _varint(len(raw)) + raw
    elif isinstance(value, int) and not isinstance(value, bool):
        held = b"\x18" + _varint(value & _MASK)
    else:
        raise TypeError(f"an attribute of a span is text or a whole number: {key}")
    held = _key(key) + b"\x12" + _varint(len(held)) + held
    return b"\x4a" + _varint(len(held)) + held


@cache
def _key(key: str) -> bytes:
    """Every key is one of `telemetry.names`."""
    return _text(b"\x0a", key)


def _link(context: SpanContext) -> bytes:
    return _message(
        b"\x6a",
        b"\x0a\x10"
        + context.trace_id.to_bytes(16, "big")
        + b"\x12\x08"
        + context.span_id.to_bytes(8, "big")
        + b"\x35"
        + _FLAGS.pack(_flags(context)),
    )


def _flags(context: SpanContext | None) -> int:
    return _KNOWN | _REMOTE if context is not None and context.is_remote else _KNOWN


def _message(tag: bytes, body: bytes) -> bytes:
    return tag + _varint(len(body)) + body


def _text(tag: bytes, text: str) -> bytes:
    """Nothing where it is empty, as protobuf leaves out what says nothing."""
    return _message(tag, text.encode()) if text else b""


_SHORT: Final = [bytes([number]) for number in range(128)]


def _varint(number: int) -> bytes:
    if number < 128:
        return _SHORT[number]
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)
