"""Spans as they are begun and recorded: sampled as asked, closed once, within the limits."""

from __future__ import annotations

import pytest

from service.entrypoints.http.request_trace import RequestTrace
from service.telemetry.traced import ids, is_sampled
from service.telemetry.tracing import SpanKind
from tests.telemetry.span_rig import SAMPLED, span_id, trace_id, tracing_in_memory


def test_about_as_many_as_asked_for_are_recorded_and_all_others_have_a_place() -> None:
    with tracing_in_memory(otel_traces_sampler="parentbased_traceidratio", otel_traces_sampler_arg=0.25) as (tracing, spans):
        begun = [tracing.start("handle", SpanKind.CONSUMER, None) for _ in range(2000)]
        for traced in begun:
            traced.end()
    # A fair coin of a quarter, 2,000 times: beyond six standard deviations on either side it is none.
    assert 380 < len(spans.all) < 620
    assert [is_sampled(traced.traceparent) for traced in begun] == [traced.span is not None for traced in begun]
    recorded = {(trace_id(span), span_id(span)) for span in spans.all}
    told = {found[:2] for traced in begun if traced.span is not None and (found := ids(traced.traceparent)) is not None}
    assert told == recorded
    assert len({traced.traceparent for traced in begun}) == 2000


@pytest.mark.parametrize(("name", "is_recorded"), [("always_on", True), ("parentbased_always_off", False)])
def test_a_sampler_without_a_ratio_is_asked_too(name: str, is_recorded: bool) -> None:
    with tracing_in_memory(otel_traces_sampler=name) as (tracing, spans):
        traced = tracing.start("handle", SpanKind.CONSUMER, None)
        traced.end()
    assert len(spans.all) == is_recorded
    assert ids(traced.traceparent) is not None
    assert is_sampled(traced.traceparent) is is_recorded


def test_a_span_that_is_over_takes_nothing_more() -> None:
    with tracing_in_memory() as (tracing, spans):
        traced = tracing.start("handle", SpanKind.CONSUMER, None)
        traced.end(at=traced.span.began + 5 if traced.span else None)
        traced.note({"too": "late"})
        traced.end("AfterAll", "nobody hears it")
        assert traced.span is not None
        traced.span.link(traced.span.context)
    span = spans.one("handle")
    assert (span.attributes, span.links, span.status.is_unset) == ({}, (), True)
    assert span.start_time is not None
    assert span.end_time == span.start_time + 5


def test_limits_of_the_environment_hold() -> None:
    with tracing_in_memory(otel_span_attribute_count_limit=2, otel_span_link_count_limit=3) as (tracing, spans):
        parts = [tracing.start("handle", SpanKind.CONSUMER, SAMPLED) for _ in range(5)]
        batch = tracing.start_over("batch", parts)
        batch.note({"first": 1, "second": 2, "third": 3})
        batch.end()
    span = spans.one("batch")
    assert span.attributes is not None
    assert (dict(span.attributes), span.dropped_attributes) == ({"messaging.batch.message_count": 5, "first": 1}, 2)
    assert (len(span.links), span.dropped_links) == (3, 2)


def test_what_stands_above_is_remote_where_another_process_made_it() -> None:
    with tracing_in_memory() as (tracing, spans):
        message = tracing.start("handle", SpanKind.CONSUMER, SAMPLED)
        tracing.start_over("alone", [message]).end()
        tracing.start_over("below the sender", [message], alone_below=SAMPLED).end()
        message.end()
        request = RequestTrace(tracing, {"type": "http", "method": "POST"}, "/hooks")
        request.begin(SAMPLED, None)
        request.begin_send("events").end()
        request.end(202)
    found = {span.name: span.parent.is_remote for span in spans.all if span.parent is not None}
    assert found == {"handle": True, "alone": False, "below the sender": True, "POST /hooks": True, "send events": False}
