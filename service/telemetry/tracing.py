"""Tracing, handed down from the composition root: spans where somebody records them, and a trace context that always travels.

A message's place in its trace is a `traceparent` (W3C Trace Context) in every store and on every wire. What is not sampled costs
a look at its last character.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import SpanContext, SpanKind

from service.telemetry import names
from service.telemetry.handling import Handling, handled
from service.telemetry.statements import StatementLog, collecting_statements
from service.telemetry.traced import UNTRACED, Traced, is_sampled

if TYPE_CHECKING:
    from service.telemetry.recorder import Recorder

__all__ = ["NO_TRACING", "SpanKind", "Tracing"]

_NOTHING: Final[AbstractContextManager[None]] = nullcontext()


class Tracing:
    """Begins spans; without a recorder it is off: it begins none, and hands every trace context on as it is.

    `respects_parents` says that the recorder's sampler records nothing of a trace that its sender does not, so that it need not be
    asked.
    """

    def __init__(
        self, recorder: Recorder | None = None, *, respects_parents: bool = True, close: Callable[[], None] = lambda: None
    ) -> None:
        self._recorder = recorder
        self._respects_parents = respects_parents
        self._close = close

    @property
    def on(self) -> bool:
        """Whether any span is ever begun."""
        return self._recorder is not None

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
        remote: bool = True,
        began: int | None = None,
        links: Sequence[SpanContext] = (),
    ) -> Traced:
        """Begin an operation, now or at that nanosecond, below what stands at `parent`; the root of a trace where that is none.

        `remote`: what stands there is another process's; not so below a span of this one.
        """
        if self._recorder is None or (parent is not None and self._respects_parents and not is_sampled(parent)):
            return Traced(parent)
        return self._recorder.begin(name, kind, parent, tracestate=tracestate, remote=remote, began=began, links=links)

    def start_over(self, name: str, parts: Sequence[Traced], alone_below: str | None = None, *, began: int | None = None) -> Traced:
        """Begin work on several messages at once; UNTRACED where none of them is recorded.

        Of a single message it is part of its trace: below `alone_below`, or else below the message's own span. Of several it is a
        trace of its own, linked both ways with each message's span that is recorded.
        """
        recorded = [part.span for part in parts if part.span is not None]
        if not recorded:
            return UNTRACED
        if len(parts) == 1:
            below = alone_below or parts[0].traceparent
            over = self.start(name, SpanKind.INTERNAL, below, remote=bool(alone_below), began=began)
        else:
            over = self.start(name, SpanKind.INTERNAL, None, began=began, links=[span.context for span in recorded])
            if over.span is not None:
                for span in recorded:
                    span.link(over.span.context)
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
        if below.span is None or self._recorder is None:
            return
        for statement in log.statements:
            self._recorder.add_statement(statement, below.span.context)
        if log.omitted:
            below.note({names.STATEMENTS_OMITTED: log.omitted})


NO_TRACING: Final = Tracing()
