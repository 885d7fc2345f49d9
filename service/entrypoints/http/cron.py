"""POST /api/cron: a tick, from whatever calls an address again and again; what is due begins, however often it is called.

405 method, 503 no secret, 401 another secret, 503 no database, 200 with what was enqueued.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from hmac import compare_digest
from http import HTTPStatus
from typing import Final, TypeAlias

import orjson
import structlog
from pydantic import SecretStr
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.actions.run_due_schedules import Begun
from service.domain.errors import Retry
from service.entrypoints.http.answers import Answer, problem, send_answer, with_ids
from service.entrypoints.http.request_trace import RequestTrace
from service.telemetry import names
from service.telemetry.tracing import NO_TRACING, Tracing

__all__ = ["RunDue", "cron_routes"]

# None where the operator has switched schedules off; raises Retry errors.
RunDue: TypeAlias = Callable[[], Awaitable[Sequence[Begun] | None]]

_BEARER: Final = b"bearer "
_NOT_ALLOWED: Final = problem(HTTPStatus.METHOD_NOT_ALLOWED, "ticks are posted", allow="POST")
_NO_SECRET: Final = problem(HTTPStatus.SERVICE_UNAVAILABLE, "CRON_SECRET is not set, so nobody may tick here")
_NOT_KNOWN: Final = problem(
    HTTPStatus.UNAUTHORIZED, "the bearer token is not that of CRON_SECRET", is_constant=True, www_authenticate='Bearer realm="cron"'
)
_NOT_NOW: Final = problem(HTTPStatus.SERVICE_UNAVAILABLE, "nothing began; the next tick makes up for it", retry_after="5")

_log: Final = structlog.get_logger(__name__)


def cron_routes(secret: SecretStr | None, run_due: RunDue, tracing: Tracing = NO_TRACING) -> list[Route]:
    """The route that a cron calls; a blank secret is none."""
    return [Route("/api/cron", _CronDoor(secret, run_due, tracing))]


class _CronDoor:
    """An ASGI application of one route, which reads no body."""

    def __init__(self, secret: SecretStr | None, run_due: RunDue, tracing: Tracing) -> None:
        value = "" if secret is None else secret.get_secret_value().strip()
        # Of equal length whatever was sent, so that nothing is learned from how long a comparison takes.
        self._digest = sha256(value.encode()).digest() if value else None
        self._run_due = run_due
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = RequestTrace(self._tracing, scope, names.CRON_ROUTE)
        try:
            answer = await self._answer(scope, request)
            request.answers()
            await send_answer(send, with_ids(answer, request.correlation_id, request.traced.traceparent))
        except BaseException as error:
            request.end(None, type(error).__name__)
            raise
        request.end(answer.status)

    async def _answer(self, scope: Scope, request: RequestTrace) -> Answer:
        if scope["method"] != "POST":
            return _NOT_ALLOWED
        if self._digest is None:
            return _NO_SECRET
        if not compare_digest(sha256(_token(scope["headers"])).digest(), self._digest):
            return _NOT_KNOWN
        # From here on: what is enqueued belongs to the trace.
        request.begin(None, None)
        try:
            begun = await self._run_due()
        except Retry as error:
            _log.warning("tick without effect", reason=str(error))
            return _NOT_NOW
        return _enqueued(begun)


def _token(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The bearer token as it was sent; empty where there is none, or more than one."""
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1 or given[0][: len(_BEARER)].lower() != _BEARER:
        return b""
    return given[0][len(_BEARER) :].strip()


def _enqueued(begun: Sequence[Begun] | None) -> Answer:
    jobs = [
        {
            "jobId": str(one.job_id),
            "kind": one.kind,
            "subjectId": None if one.subject_id is None else str(one.subject_id),
            "slot": one.slot.isoformat().replace("+00:00", "Z"),
            "skipped": one.skipped,
        }
        for one in begun or ()
    ]
    body = orjson.dumps({"enabled": begun is not None, "enqueued": jobs})
    headers = ((b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()))
    return Answer(HTTPStatus.OK, body, headers)
