"""Tracing, handed down from the composition root: spans where somebody records them, and a trace context that always travels.

A message's place in its trace is a `traceparent` (W3C Trace Context) in every store and on every wire. What is not sampled costs
a look at its last character.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

from service.telemetry import names
from service.telemetry.handling import Handling, handled
from service.telemetry.statements import Statement, StatementLog, collecting_statements
from service.telemetry.traced import UNTRACED, Traced, ids, is_sampled

__all__ = ["NO_TRACING", "SpanKind", "Tracing"]

_NOWHERE: Final = Context()
_NOTHING: Final[AbstractContextManager[None]] = nullcontext()


class Tracing:
    """Begins spans; without a tracer it is off: it begins none, and hands every trace context on as it is.

    `add_statement` records a statement that was run, below a span. `respects_parents` says that the sampler records nothing of a
    trace that its sender does not, so that it need not be asked. `unrecorded_root` draws a trace: its `traceparent` where nobody
    records it, None where a span is to be begun.
    """

    def __init__(
        self,
        tracer: Tracer | None = None,
        *,
        add_statement: Callable[[Statement, SpanContext], None] = lambda _, __: None,
        respects_parents: bool = True,
        unrecorded_root: Callable[[str, SpanKind], str | None] = lambda _, __: None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._tracer = tracer
        self._add_statement = add_statement
        self._respects_parents = respects_parents
        self._unrecorded_root = unrecorded_root
        self._close = close

    @property
    def on(self) -> bool:
        """Whether any span is ever begun."""
        return self._tracer is not None

    def close(self) -> None:
        """Send what is not sent yet, within a bound; blocks for that long at most."""
        self._close()

    def start(
        self,
        name: str,
        kind: SpanKind,
        parent: str | None,
        *,
        tracestate: object = None,
        began: int | None = None,
        links: Sequence[SpanContext] = (),
    ) -> Traced:
        """Begin an operation, now or at that nanosecond, below what stands at `parent`; the root of a trace where that is none."""
        if self._tracer is None or (parent is not None and self._respects_parents and not is_sampled(parent)):
            return Traced(parent)
        if parent is None and not links and (unrecorded := self._unrecorded_root(name, kind)) is not None:
            return Traced(unrecorded)
        span = self._tracer.start_span(
            name, _context(parent, tracestate), kind, links=[Link(link) for link in links], start_time=began
        )
        found = span.get_span_context()
        # What is not recorded says so to all that follow: a span of theirs would have no parent.
        traceparent = f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
        return Traced(traceparent, span if span.is_recording() else None)

    def start_over(self, name: str, parts: Sequence[Traced], alone_below: str | None = None, *, began: int | None = None) -> Traced:
        """Begin work on several messages at once; UNTRACED where none of them is recorded.

        Of a single message it is part of its trace: below `alone_below`, or else below the message's own span. Of several it is a
        trace of its own, linked both ways with each message's span that is recorded.
        """
        recorded = [part.span for part in parts if part.span is not None]
        if not recorded:
            return UNTRACED
        if len(parts) == 1:
            over = self.start(name, SpanKind.INTERNAL, alone_below or parts[0].traceparent, began=began)
        else:
            over = self.start(name, SpanKind.INTERNAL, None, began=began, links=[span.get_span_context() for span in recorded])
            if over.span is not None:
                here = over.span.get_span_context()
                for span in recorded:
                    if span.is_recording():
                        span.add_link(here)
        over.note({names.MESSAGING_BATCH_COUNT: len(parts)})
        return over

    def over(self, name: str, parts: Sequence[Traced]) -> AbstractContextManager[None]:
        """Work on several messages at once, with the statements that it runs below it."""
        return self._over(name, parts) if any(part.span is not None for part in parts) else _NOTHING

    @contextmanager
    def _over(self, name: str, parts: Sequence[Traced]) -> Iterator[None]:
        over = self.start_over(name, parts)
        error: str | None = None
        with handled(Handling(traced=over)), collecting_statements() as log:
            try:
                yield
            except BaseException as raised:
                error = type(raised).__name__
                raise
            finally:
                self.add_statements(over, log)
                over.end(error)

    def add_statements(self, below: Traced, log: StatementLog) -> None:
        """Give each statement of the log its span, after the event."""
        if below.span is None:
            return
        parent = below.span.get_span_context()
        for statement in log.statements:
            self._add_statement(statement, parent)
        if log.omitted:
            below.note({names.STATEMENTS_OMITTED: log.omitted})


NO_TRACING: Final = Tracing()


def _context(traceparent: str | None, tracestate: object) -> Context:
    """The context below which a span begins; what cannot be read is as if it were not there."""
    found = ids(traceparent)
    if found is None:
        return _NOWHERE
    trace_id, span_id, flags = (int(part, 16) for part in found)
    # Out of a stored header, which may be anything.
    state = TraceState.from_header([tracestate]) if isinstance(tracestate, str) else None
    return set_span_in_context(NonRecordingSpan(SpanContext(trace_id, span_id, True, TraceFlags(flags), state)), _NOWHERE)
