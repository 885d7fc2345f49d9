"""The traces of a relay's window: a span for each recorded message that is sent, one for the work on all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import time_ns
from typing import TYPE_CHECKING, Protocol, assert_never

from service.clients.confirm_channel import Confirmed, Nacked, Outcome, Refused, Returned, Unknown
from service.telemetry import names
from service.telemetry.handling import Handling, handle, handled
from service.telemetry.messages import send_attributes
from service.telemetry.statements import collecting_statements
from service.telemetry.traced import UNTRACED, Traced, is_sampled
from service.telemetry.tracing import SpanKind, Tracing

if TYPE_CHECKING:
    from service.domain.outbox import ClaimedMessage

__all__ = ["PublishesWindows", "end_send", "trace_window"]


class PublishesWindows(Protocol):
    """Publishes messages together, with an outcome for each."""

    async def publish_window(self, messages: Sequence[ClaimedMessage], /) -> list[Outcome]:
        """The broker's word on each."""


def trace_window(tracing: Tracing, publisher: PublishesWindows) -> AbstractContextManager[PublishesWindows]:
    """The publisher to use for one window: inside, its claim, its publishing and its settlement are traced as one work."""
    return _traced(tracing, publisher) if tracing.on else nullcontext(publisher)


@contextmanager
def _traced(tracing: Tracing, publisher: PublishesWindows) -> Iterator[PublishesWindows]:
    window = _Window(tracing, publisher)
    error: str | None = None
    with handled(Handling()), collecting_statements() as log:
        try:
            yield window
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            tracing.add_statements(window.over, log)
            window.over.end(error)


class _Window:
    """Publishes one window over another publisher; what its sender did not record passes through untouched."""

    def __init__(self, tracing: Tracing, publisher: PublishesWindows) -> None:
        self._tracing = tracing
        self._publisher = publisher
        self._began = time_ns()
        self.over: Traced = UNTRACED

    async def publish_window(self, messages: Sequence[ClaimedMessage], /) -> list[Outcome]:
        sends = {
            index: self._begin(message) for index, message in enumerate(messages) if is_sampled(message.headers.get("traceparent"))
        }
        if not sends:
            return await self._publisher.publish_window(messages)
        parts = [sends.get(index, (None, UNTRACED)) for index in range(len(messages))]
        self.over = self._tracing.start_over(
            names.RELAY_WINDOW, [traced for _, traced in parts], alone_below=parts[0][0], began=self._began
        )
        handle(Handling(traced=self.over))
        try:
            outcomes = await self._publisher.publish_window(messages)
        except BaseException as error:
            for _, traced in sends.values():
                traced.end(type(error).__name__)
            raise
        for index, (_, traced) in sends.items():
            end_send(traced, outcomes[index])
        return outcomes

    def _begin(self, message: ClaimedMessage) -> tuple[str, Traced]:
        """Where the message's trace stood, and its sending, which its receivers see as their parent."""
        parent = message.headers["traceparent"]
        traced = self._tracing.start(
            names.send_span(message.exchange), SpanKind.PRODUCER, parent, tracestate=message.headers.get("tracestate")
        )
        message.headers = {**message.headers, "traceparent": traced.traceparent}
        if traced.span is not None:
            traced.note(send_attributes(message))
        return parent, traced


def end_send(traced: Traced, outcome: Outcome) -> None:
    """A message's sending is over, with the broker's word on it."""
    match outcome:
        case Confirmed():
            traced.end()
        case Returned(why) | Nacked(why) | Refused(why):
            traced.end(type(outcome).__name__.lower(), why)
        case Unknown():
            traced.end(names.UNCONFIRMED)
        case _:
            assert_never(outcome)
