"""Of a trace that begins here it is known whether it is recorded before there is a span; the SDK comes to the same."""

from __future__ import annotations

import pytest

from service.telemetry.roots import Roots
from service.telemetry.sampling import root_sampler
from service.telemetry.traced import ids, is_sampled
from service.telemetry.tracing import SpanKind
from tests.telemetry.span_rig import span_id, trace_id, tracing_in_memory


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


def test_a_drawn_id_is_given_to_one_trace_alone() -> None:
    roots = Roots(root_sampler("always_on", 1.0))
    assert roots.unrecorded("handle", SpanKind.CONSUMER) is None
    assert len({roots.generate_trace_id() for _ in range(3)}) == 3


def test_what_is_not_recorded_leaves_no_id_behind() -> None:
    roots = Roots(root_sampler("always_off", 0.0))
    told = ids(roots.unrecorded("handle", SpanKind.CONSUMER))
    assert told is not None
    assert int(told[0], 16) != roots.generate_trace_id()
