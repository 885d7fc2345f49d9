"""What is written is what the SDK would have written, whatever a span of ours may hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from service.telemetry.otlp import SpanEncoder

# Long enough for lengths of several bytes.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(["x" * 127, "x" * 128, "ð" * 9000])
STATES = st.sampled_from([None, TraceState(), TraceState([("vendor", "1"), ("other", "a b")])])
CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.sampled_from([TraceFlags(1), TraceFlags(3)]),
    STATES,
)
LINKS = st.lists(st.builds(Link, CONTEXTS), max_size=5)
INSTANTS = st.integers(0, 2**63 - 1)
RESOURCE = Resource({"service.name": "rollcall", "host.cores": 2, "share": 0.5, "tags": ("a", "b")}, "https://schema.example/1")


def cut(attributes: dict[str, str | int], dropped: int) -> BoundedAttributes:
    held = BoundedAttributes(None, attributes)
    held.dropped = dropped
    return held


ATTRIBUTES = st.dictionaries(
    st.text(st.characters(codec="ascii"), max_size=9), TEXTS | st.integers(-(2**63), 2**63 - 1), max_size=9
)
SPANS = st.builds(
    ReadableSpan,
    TEXTS,
    CONTEXTS,
    st.none() | CONTEXTS,
    st.just(RESOURCE),
    ATTRIBUTES | st.builds(cut, ATTRIBUTES, st.sampled_from([1, 200])),
    links=LINKS | LINKS.map(lambda links: BoundedList.from_seq(2, links)),
    kind=st.sampled_from(SpanKind),
    instrumentation_scope=st.just(InstrumentationScope("rollcall", "1.2", "https://schema.example/2")),
    status=st.sampled_from([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR), Status(StatusCode.ERROR, "it failed")]),
    start_time=INSTANTS,
    end_time=INSTANTS,
)


@given(st.lists(SPANS, max_size=5), st.lists(SPANS, max_size=2))
def test_a_request_says_what_the_sdks_own_would_say(first: list[ReadableSpan], second: list[ReadableSpan]) -> None:
    encoder = SpanEncoder()
    for spans in (first, second):
        assert ExportTraceServiceRequest.FromString(encoder.encode(spans)) == encode_spans(spans)


def test_what_all_spans_share_is_written_by_the_sdk_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("service.telemetry.otlp.encode_spans", lambda spans: asked.append(len(spans)) or encode_spans(spans))
    encoder, spans = SpanEncoder(), [ReadableSpan("one", SpanContext(1, 2, is_remote=False), resource=RESOURCE)] * 20
    assert encoder.encode(spans) == encoder.encode(spans)
    assert asked == [1]


@pytest.mark.parametrize("value", [True, 0.5, None, ["a"]])
def test_an_attribute_of_another_kind_is_a_defect_that_is_not_sent_as_something_else(value: object) -> None:
    span = ReadableSpan("one", SpanContext(1, 2, is_remote=False), attributes={"odd": value})  # type: ignore[dict-item]  # it is odd
    with pytest.raises(TypeError, match="odd"):
        SpanEncoder().encode([span])
