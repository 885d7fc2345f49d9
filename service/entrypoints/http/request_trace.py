"""A request's correlation id and its place in a trace, which is its sender's only once the sender is verified."""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING, Final

from uuid_utils import uuid7

from service.actions.trace_window import end_send
from service.telemetry import names
from service.telemetry.handling import Handling, handle
from service.telemetry.messages import send_attributes
from service.telemetry.traced import UNTRACED, Traced
from service.telemetry.tracing import SpanKind, Tracing

if TYPE_CHECKING:
    from starlette.types import Scope

    from service.clients.confirm_channel import Outcome
    from service.translation import WebhookMessage

__all__ = ["RequestTrace", "sent"]

_SERVER_ERROR: Final = 500


class RequestTrace:
    """One request from its first byte to its answer; what it logs meanwhile says which request it was."""

    __slots__ = ("_began", "_begun", "_method", "_note", "_tracing", "correlation_id", "route", "traced", "tracestate")

    def __init__(self, tracing: Tracing, scope: Scope, route: str) -> None:
        self._tracing = tracing
        self._method: str = scope["method"]
        # Its pattern; whoever learns it late says so before it begins.
        self.route = route
        self._began = time_ns()
        self._begun = False
        self._note: dict[str, str | int] = {names.URL_SCHEME: scope.get("scheme", "http")}
        self.correlation_id = str(uuid7())
        self.traced: Traced = UNTRACED
        self.tracestate: str | None = None
        handle(Handling(self.correlation_id))

    def about(self, connection_id: str) -> None:
        """It is for this connection, which exists."""
        self._note[names.CONNECTION_ID] = connection_id

    def begin(self, traceparent: str | None, tracestate: str | None) -> None:
        """Begin its span, late: below its sender's, who is verified, or without one as the root of a trace."""
        self._begun = True
        self.tracestate = tracestate
        name = names.request_span(self._method, self.route)
        self.traced = self._tracing.start(name, SpanKind.SERVER, traceparent, tracestate=tracestate, began=self._began)
        handle(Handling(self.correlation_id, self.traced))

    def begin_send(self, exchange: str) -> Traced:
        """Begin to send what came of it."""
        return self._tracing.start(names.send_span(exchange), SpanKind.PRODUCER, self.traced.traceparent, remote=False)

    def answers(self) -> None:
        """It is answered now: whoever was not verified has a trace of its own."""
        if not self._begun:
            self.begin(None, None)

    def told(self) -> list[tuple[bytes, bytes]]:
        """The headers by which whoever asked finds it again."""
        headers = [(b"x-correlation-id", self.correlation_id.encode())]
        if self.traced.traceparent is not None:
            headers.append((b"traceresponse", self.traced.traceparent.encode()))
        return headers

    def end(self, status: int | None, error: str | None = None) -> None:
        """It is over; without a status it has no answer."""
        self.answers()
        if self.traced.span is None:
            return
        self._note[names.HTTP_REQUEST_METHOD] = self._method if self._method in names.HTTP_METHODS else names.OTHER_HTTP_METHOD
        self._note[names.HTTP_ROUTE] = self.route
        self._note[names.CORRELATION_ID] = self.correlation_id
        if status is not None:
            self._note[names.HTTP_STATUS_CODE] = status
            if error is None and status >= _SERVER_ERROR:
                error = str(status)
        self.traced.note(self._note)
        self.traced.end(error)


def sent(traced: Traced, message: WebhookMessage, outcome: Outcome | None) -> None:
    """A message's sending is over, with the broker's word on it; None where it gave none in time."""
    if traced.span is None:
        return
    traced.note(send_attributes(message))
    if outcome is None:
        traced.end(names.TIMEOUT)
    else:
        end_send(traced, outcome)
