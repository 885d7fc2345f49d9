"""The admin API as an ASGI application: each request traced, counted, and answered whatever happens."""

from __future__ import annotations

import traceback
from time import perf_counter
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.entrypoints.http.request_body import drain
from service.entrypoints.http.request_trace import RequestTrace
from service.telemetry import names
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing

__all__ = ["AdminDoor"]

# For the count alone: nobody is there to read it.
_CLIENT_GONE: Final = 499

_CLOSES: Final = (b"connection", b"close")

_log: Final = structlog.get_logger(__name__)


class AdminDoor:
    """Around the framework: what it raises has been answered by then, and shows no value in the log."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing) -> None:
        self._app, self._metrics, self._tracing = app, metrics, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = perf_counter()
        # Its route is known only once the framework has found it.
        request = RequestTrace(self._tracing, scope, names.NO_ROUTE)
        scope.setdefault("state", {})["trace"] = request
        status: int | None = None
        closes = False

        async def answered(message: Message) -> None:
            nonlocal status, closes
            if message["type"] == "http.response.start":
                status = message["status"]
                request.answers()
                closes = _CLOSES in message["headers"]
                message["headers"] = [*message["headers"], *request.told()]
            elif closes:
                # The server keeps reading until the last part is sent.
                message["more_body"] = True
            await send(message)

        error: str | None = None
        try:
            await self._app(scope, receive, answered)
        except Exception as raised:  # noqa: BLE001  # whatever it is, the request was answered
            error = type(raised).__name__
            # Its text may quote what was sent.
            _log.error("request failed in a way that has no rule", route=request.route, error=error, where=_where(raised))
        except BaseException as raised:
            request.end(status, type(raised).__name__)
            raise
        request.end(status, error)
        route = names.request_span(scope["method"], request.route)
        self._metrics.admin_answered(route, status or _CLIENT_GONE, perf_counter() - began)
        if closes:
            await drain(receive)
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _where(error: BaseException) -> str:
    """The innermost place in the code."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "unknown"
