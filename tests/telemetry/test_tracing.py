"""Spans are begun where somebody records them; the context travels in any case; batches are linked both ways."""

from __future__ import annotations

import pytest

from service.telemetry.handling import handling
from service.telemetry.statements import Statement, StatementName, collecting_statements, statement_log
from service.telemetry.traced import UNTRACED
from service.telemetry.tracing import NO_TRACING, SpanKind
from tests.telemetry.span_rig import SAMPLED, SPAN, TRACE, UNSAMPLED, links, parent_id, span_id, trace_id, tracing_in_memory


@pytest.mark.parametrize("parent", [None, SAMPLED, UNSAMPLED, "junk"])
def test_without_tracing_a_context_is_handed_on_as_it_is(parent: str | None) -> None:
    traced = NO_TRACING.start("name", SpanKind.CONSUMER, parent)
    assert (traced.traceparent, traced.span) == (parent, None)
    assert not NO_TRACING.on


def test_a_recorded_operation_hangs_below_its_parent_and_hands_itself_on() -> None:
    with tracing_in_memory() as (tracing, spans):
        traced = tracing.start("handle", SpanKind.CONSUMER, SAMPLED, tracestate="vendor=1")
        traced.note({"some.thing": 3})
        traced.end()
    span = spans.one("handle")
    assert (trace_id(span), parent_id(span)) == (TRACE, SPAN)
    assert traced.traceparent is not None
    assert traced.traceparent.startswith(f"00-{TRACE}-{span_id(span)}-")
    assert int(traced.traceparent[-1], 16) & 1
    assert span.attributes == {"some.thing": 3}
    assert span.get_span_context().trace_state["vendor"] == "1"
    assert span.status.is_unset


@pytest.mark.parametrize("tracestate", [7, b"a=1", "not a state", "", {"a": 1}])
def test_a_tracestate_that_is_none_is_left_out(tracestate: object) -> None:
    with tracing_in_memory() as (tracing, spans):
        tracing.start("handle", SpanKind.CONSUMER, SAMPLED, tracestate=tracestate).end()
    assert len(spans.one("handle").get_span_context().trace_state) == 0


def test_what_its_sender_does_not_record_is_not_recorded_and_keeps_its_place() -> None:
    with tracing_in_memory() as (tracing, spans):
        traced = tracing.start("handle", SpanKind.CONSUMER, UNSAMPLED)
        traced.note({"some.thing": 3})
        traced.end("Failure")
        assert tracing.start_over("batch", [traced, traced]) is UNTRACED
    assert traced.traceparent == UNSAMPLED
    assert spans.all == []


def test_a_sampler_that_asks_no_parent_is_asked_all_the_same() -> None:
    with tracing_in_memory(otel_traces_sampler="always_on") as (tracing, spans):
        tracing.start("handle", SpanKind.CONSUMER, UNSAMPLED).end()
    assert trace_id(spans.one("handle")) == TRACE


def test_what_is_not_sampled_here_says_so_to_those_who_follow() -> None:
    with tracing_in_memory(otel_traces_sampler="always_off") as (tracing, spans):
        traced = tracing.start("handle", SpanKind.CONSUMER, SAMPLED)
        new = tracing.start("handle", SpanKind.CONSUMER, None)
    assert traced.traceparent is not None
    assert new.traceparent is not None
    assert traced.traceparent.startswith(f"00-{TRACE}-")
    assert not int(traced.traceparent[-1], 16) & 1
    assert not int(new.traceparent[-1], 16) & 1
    assert spans.all == []


def test_a_failure_is_told_by_its_kind() -> None:
    with tracing_in_memory() as (tracing, spans):
        tracing.start("handle", SpanKind.CONSUMER, None).end("Park", "free of values")
    span = spans.one("handle")
    assert span.attributes == {"error.type": "Park"}
    assert not span.status.is_ok
    assert span.status.description == "free of values"


def test_work_on_one_message_is_part_of_its_trace() -> None:
    with tracing_in_memory() as (tracing, spans):
        message = tracing.start("handle", SpanKind.CONSUMER, SAMPLED)
        with tracing.over("batch", [message]):
            assert handling().traced.span is not None
        message.end()
    batch, handle = spans.all
    assert (trace_id(batch), parent_id(batch)) == (TRACE, span_id(handle))
    assert links(batch) == links(handle) == []
    assert batch.attributes == {"messaging.batch.message_count": 1}


def test_work_on_several_is_a_trace_of_its_own_linked_both_ways_with_those_that_are_recorded() -> None:
    with tracing_in_memory() as (tracing, spans):
        messages = [tracing.start(f"handle {number}", SpanKind.CONSUMER, SAMPLED) for number in range(200)]
        unrecorded = tracing.start("handle", SpanKind.CONSUMER, UNSAMPLED)
        with tracing.over("batch", [*messages, unrecorded]):
            pass
        for message in messages:
            message.end()
    batch, *handled = spans.all
    assert parent_id(batch) is None
    assert trace_id(batch) != TRACE
    # All of them: the SDK's own limit would keep the last 128.
    assert links(batch) == [span_id(span) for span in handled]
    assert all(links(span) == [span_id(batch)] for span in handled)
    assert batch.attributes == {"messaging.batch.message_count": 201}


@pytest.mark.parametrize("sampler", ["parentbased_always_off", "parentbased_traceidratio", "traceidratio"])
def test_a_batch_with_a_recorded_message_is_recorded_whatever_the_dice_say(sampler: str) -> None:
    with tracing_in_memory(otel_traces_sampler=sampler, otel_traces_sampler_arg=0.0) as (tracing, spans):
        # Recorded because its sender does, or by another sampler before: what counts is that it is.
        with tracing_in_memory() as (other, _):
            recorded = other.start("handle", SpanKind.CONSUMER, None)
        with tracing.over("batch", [recorded, UNTRACED]):
            pass
    assert spans.names == ["batch"]


def test_a_failed_batch_says_so_and_the_failure_goes_on() -> None:
    with tracing_in_memory() as (tracing, spans):
        message = tracing.start("handle", SpanKind.CONSUMER, SAMPLED)
        with pytest.raises(KeyError), tracing.over("batch", [message]):
            raise KeyError("ada@example.com")
    batch = spans.one("batch")
    assert batch.attributes is not None
    assert batch.attributes["error.type"] == "KeyError"
    assert batch.status.description is None
    assert not batch.events


def test_statements_are_spans_with_the_times_that_they_had() -> None:
    name = StatementName("members.lock_members", "SELECT", "members")
    with tracing_in_memory() as (tracing, spans):
        message = tracing.start("handle", SpanKind.CONSUMER, SAMPLED)
        with tracing.over("batch", [message]):
            log = statement_log()
            assert log is not None
            log.add(Statement(name, 1_000, 2_000, None))
            log.add(Statement(name, 2_000, 3_000, "DeadlockDetectedError"))
            for _ in range(400):
                log.add(Statement(StatementName("COMMIT"), 3_000, 4_000, None))
    assert statement_log() is None
    first, second = spans.named("members.lock_members")
    batch = spans.one("batch")
    assert (first.start_time, first.end_time) == (1_000, 2_000)
    assert parent_id(first) == parent_id(second) == span_id(batch)
    assert first.attributes == {
        "db.system.name": "postgresql",
        "db.query.summary": "members.lock_members",
        "db.operation.name": "SELECT",
        "db.collection.name": "members",
    }
    assert second.attributes is not None
    assert second.attributes["error.type"] == "DeadlockDetectedError"
    assert len(spans.named("COMMIT")) == 298
    assert batch.attributes is not None
    assert batch.attributes["rollcall.statements.omitted"] == 102


def test_nothing_is_collected_where_nothing_is_recorded() -> None:
    with tracing_in_memory() as (tracing, _), tracing.over("batch", [UNTRACED, UNTRACED]):
        assert statement_log() is None
    with collecting_statements() as log:
        assert statement_log() is log
