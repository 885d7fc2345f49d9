"""Spans as the SDK's samplers, processors and exporters know them: begun by its rules, handed on when they are over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from itertools import islice
from random import getrandbits
from typing import TYPE_CHECKING, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.util.types import Attributes as AnyAttributes

from service.telemetry import names
from service.telemetry.sampling import Sampling
from service.telemetry.spans import OpenSpan
from service.telemetry.statements import Statement, StatementName
from service.telemetry.traced import Traced, ids

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

__all__ = ["Recorder"]

_UNSET: Final = Status()
_ERROR: Final = Status(StatusCode.ERROR)


class Recorder:
    """Begins spans where `sampling` says so; a finished one goes to the processor, with at most so many links and attributes."""

    def __init__(
        self,
        sampling: Sampling,
        processor: SpanProcessor,
        resource: Resource,
        *,
        most_links: int,
        most_attributes: int | None = None,
    ) -> None:
        self._sampling = sampling
        self._processor = processor
        self._resource = resource
        self._scope = InstrumentationScope(names.TRACER, version("rollcall"))
        self._most_links = most_links
        self._most_attributes = most_attributes

    def begin(
        self,
        name: str,
        kind: SpanKind,
        parent: str | None,
        *,
        tracestate: object = None,
        remote: bool = True,
        began: int | None = None,
        links: Sequence[SpanContext] = (),
    ) -> Traced:
        """Begin an operation below what stands at `parent`, or a trace; what is not recorded says so to all that follow.

        `remote`: what stands there is another process's.
        """
        above = _span_context(parent, tracestate, remote=remote)
        trace_id = _random(128) if above is None else above.trace_id
        # An id of ours is random, and one that we were given is what whoever drew it says.
        flags = TraceFlags.RANDOM_TRACE_ID if above is None else above.trace_flags & TraceFlags.RANDOM_TRACE_ID
        span_id = _random(64)
        if not self._sampling.records(trace_id, above, links):
            return Traced(f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}")
        flags |= TraceFlags.SAMPLED
        own = SpanContext(trace_id, span_id, False, TraceFlags(flags), None if above is None else above.trace_state)
        span = OpenSpan(name, kind, own, above, began=began, links=links, record=self._record)
        return Traced(f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}", span)

    def add_statement(self, statement: Statement, parent: SpanContext) -> None:
        """A statement that was run, as a child of a recorded span."""
        attributes, status = _attributes(statement.name), _UNSET
        if statement.error is not None:
            attributes, status = {**attributes, names.ERROR_TYPE: statement.error}, _ERROR
        own = SpanContext(parent.trace_id, _random(64), is_remote=False, trace_flags=parent.trace_flags)
        self._processor.on_end(
            ReadableSpan(
                statement.name.summary,
                own,
                parent,
                self._resource,
                attributes,
                kind=SpanKind.CLIENT,
                instrumentation_scope=self._scope,
                status=status,
                start_time=statement.began,
                end_time=statement.ended,
            )
        )

    def _record(self, span: OpenSpan) -> None:
        links: Sequence[Link] = [Link(context) for context in span.links]
        if len(links) > self._most_links:
            links = BoundedList.from_seq(self._most_links, links)
        attributes: AnyAttributes = span.attributes
        if self._most_attributes is not None and len(span.attributes) > self._most_attributes:
            attributes = _first(span.attributes, self._most_attributes)
        self._processor.on_end(
            ReadableSpan(
                span.name,
                span.context,
                span.parent,
                self._resource,
                attributes,
                links=links,
                kind=span.kind,
                instrumentation_scope=self._scope,
                status=_UNSET if span.failure is None else Status(StatusCode.ERROR, span.failure[0]),
                start_time=span.began,
                end_time=span.ended,
            )
        )


@cache
def _attributes(name: StatementName) -> dict[str, str]:
    found = {names.DB_SYSTEM: names.POSTGRESQL, names.DB_QUERY_SUMMARY: name.summary}
    if name.operation is not None:
        found[names.DB_OPERATION] = name.operation
    if name.table is not None:
        found[names.DB_COLLECTION] = name.table
    return found


def _first(attributes: Mapping[str, str | int], most: int) -> BoundedAttributes:
    """The first, which say what it is, and how many more there were; the SDK would keep the last."""
    kept = BoundedAttributes(most, dict(islice(attributes.items(), most)))
    kept.dropped = len(attributes) - most
    return kept


def _random(bits: int) -> int:
    """An id; none is zero."""
    return getrandbits(bits) or 1


def _span_context(traceparent: str | None, tracestate: object, *, remote: bool) -> SpanContext | None:
    """Where a span stands; what cannot be read is as if it were not there."""
    found = ids(traceparent)
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found)
    # Out of a stored header, which may be anything.
    state = TraceState.from_header([tracestate]) if isinstance(tracestate, str) else None
    return SpanContext(trace_id, span_id, remote, TraceFlags(flags), state)
