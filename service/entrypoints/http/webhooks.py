"""POST /webhooks/{connection_id}: checked in a fixed order, answered 202 only after the broker's confirm.

405 method, 404 connection, 413 size, 408 time, 415 media type, 429 address, 503 no secret, 401 signature, 400 no JSON object,
429 source, 503 not confirmed, 202.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from ipaddress import IPv6Address
from time import monotonic, perf_counter
from typing import Final, TypeAlias, assert_never
from uuid import UUID

import orjson
import structlog
from starlette.types import Receive, Scope, Send

from contracts.channels import WEBHOOK_RECEIVED
from contracts.envelope import trace_context
from contracts.webhook_received import WebhookReceivedV1
from service import translation
from service.actions.find_webhook import WebhookSource
from service.clients.confirm_channel import Confirmed, Nacked, Outcome, Refused, Returned, Unknown
from service.domain.errors import Unavailable
from service.domain.member import ConnectionId
from service.domain.token_buckets import TokenBuckets
from service.domain.webhooks.signatures import Forged, Headers, Verified, active, dedupe_key, verify
from service.entrypoints.http.answers import Answer, problem, send_answer, with_ids
from service.entrypoints.http.request_body import BodyProblem, BodyReader, drain
from service.entrypoints.http.request_trace import RequestTrace, sent
from service.telemetry import names
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.seldom import Seldom
from service.telemetry.tracing import NO_TRACING, Tracing
from service.translation import WebhookMessage

__all__ = ["PREFIX", "WebhookDoor", "WebhookLimits"]

# None for a connection that takes no webhooks; raises Unavailable.
FindSource: TypeAlias = Callable[[ConnectionId], Awaitable[WebhookSource | None]]
Admit: TypeAlias = Callable[[ConnectionId, int], Awaitable[bool]]
Publish: TypeAlias = Callable[[WebhookMessage], Awaitable[Outcome]]

PREFIX: Final = "/webhooks/"
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_JSON: Final = re.compile(rb'application/([a-z0-9.-]+\+)?json\s*(;\s*charset="?utf-?8"?\s*)?', re.IGNORECASE)
_MAX_HEADER: Final = 255
_RETRY_AFTER: Final = "5"
# For the count alone: nobody is there to read it.
_CLIENT_GONE: Final = 499

_NOT_ALLOWED: Final = problem(HTTPStatus.METHOD_NOT_ALLOWED, "webhooks are posted", allow="POST")
_NOT_FOUND: Final = problem(HTTPStatus.NOT_FOUND, "no connection takes webhooks here")
_TOO_LARGE: Final = problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a webhook has at most 1 MiB", closes=True)
_TOO_SLOW: Final = problem(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time", closes=True)
_NOT_JSON_TYPE: Final = problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the content type must be JSON in UTF-8, not encoded")
_NOT_GENUINE: Final = problem(
    HTTPStatus.UNAUTHORIZED, "the signature does not fit", is_constant=True, www_authenticate='Signature realm="webhooks"'
)
_NO_OBJECT: Final = problem(HTTPStatus.BAD_REQUEST, "the body must be a JSON object")
_TOO_MANY: Final = problem(HTTPStatus.TOO_MANY_REQUESTS, "too many requests", retry_after="1")
_NOT_NOW: Final = problem(HTTPStatus.SERVICE_UNAVAILABLE, "the webhook was not taken; send it again", retry_after=_RETRY_AFTER)
_BUSY: Final = problem(
    HTTPStatus.SERVICE_UNAVAILABLE, "the webhook was not taken; send it again", closes=True, retry_after=_RETRY_AFTER
)
_ACCEPTED_BODY: Final = b'{"status":"accepted"}'
_ACCEPTED: Final = Answer(
    HTTPStatus.ACCEPTED,
    _ACCEPTED_BODY,
    ((b"content-type", b"application/json"), (b"content-length", str(len(_ACCEPTED_BODY)).encode())),
    is_constant=True,
)

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookLimits:
    """Bounds of one process: bytes, seconds, and wrongly signed webhooks of one address a second."""

    largest_body: int = 1024 * 1024
    all_bodies: int = 64 * 1024 * 1024
    receive: timedelta = timedelta(seconds=10)
    # From the body's last byte to the answer.
    confirm: timedelta = timedelta(seconds=2.3)
    forged_per_second: int = 50


class WebhookDoor:
    """An ASGI application of one route."""

    def __init__(
        self,
        find_source: FindSource,
        admit: Admit,
        publish: Publish,
        limits: WebhookLimits,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        metrics: Metrics = UNMEASURED,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._tracing = tracing
        self._find_source, self._admit, self._publish, self._clock = find_source, admit, publish, clock
        self._confirm_seconds = limits.confirm.total_seconds()
        self._bodies = BodyReader(limits.largest_body, limits.receive.total_seconds(), limits.all_bodies)
        self._addresses = TokenBuckets(per_second=limits.forged_per_second, burst=4 * limits.forged_per_second)
        self._seldom = Seldom()
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = perf_counter()
        request = RequestTrace(self._tracing, scope, names.WEBHOOK_ROUTE)
        try:
            answer = await self._answer(scope, receive, request)
            if answer is None:
                self._metrics.webhook_refused(_CLIENT_GONE, "client_gone")
                request.end(None, names.DISCONNECTED)
                return
            self._metrics.webhook_answered(answer.status, perf_counter() - began)
            request.answers()
            await send_answer(send, with_ids(answer, request.correlation_id, request.traced.traceparent), last=not answer.closes)
        except BaseException as error:
            request.end(None, type(error).__name__)
            raise
        request.end(answer.status)
        if answer.closes:
            await drain(receive)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _answer(self, scope: Scope, receive: Receive, request: RequestTrace) -> Answer | None:
        """What to answer; None where the client is gone."""
        if scope["method"] != "POST":
            return self._refuse("method", _NOT_ALLOWED)
        text = scope["path"].removeprefix(PREFIX)
        if not _UUID.fullmatch(text):
            return self._refuse("unknown_connection", _NOT_FOUND)
        connection_id = ConnectionId(UUID(text))
        try:
            source = await self._find_source(connection_id)
        except Unavailable as error:
            self._say("webhook not taken", connection_id, str(error))
            return self._refuse("database_away", _NOT_NOW)
        if source is None:
            return self._refuse("unknown_connection", _NOT_FOUND)
        request.about(text)
        headers: Headers = scope["headers"]
        body = await self._bodies.read(receive, _single(headers, b"content-length"))
        match body:
            case BodyProblem.GONE:
                return None
            case BodyProblem.TOO_LARGE:
                return self._refuse("too_large", _TOO_LARGE)
            case BodyProblem.TOO_SLOW:
                return self._refuse("too_slow", _TOO_SLOW)
            case BodyProblem.BUSY:
                return self._refuse("busy", _BUSY)
        deadline = asyncio.get_running_loop().time() + self._confirm_seconds
        try:
            return await self._take(source, scope, headers, body, deadline, request)
        finally:
            self._bodies.release(body)

    async def _take(
        self, source: WebhookSource, scope: Scope, headers: Headers, body: bytes, deadline: float, request: RequestTrace
    ) -> Answer:
        media_type = _json_media_type(headers)
        if media_type is None:
            return self._refuse("media_type", _NOT_JSON_TYPE)
        address = _address(scope)
        if not self._addresses.take(address, monotonic()):
            return self._refuse("address_limit", _TOO_MANY)
        now = self._clock()
        if not active(source.secrets, now):
            # What is ours to mend is not the sender's fault.
            self._addresses.give_back(address)
            self._say("webhook not taken", source.connection_id, "; ".join(source.problems) or "no secret is configured")
            return self._refuse("no_secret", _NOT_NOW)
        verdict = verify(source.scheme, headers, body, source.secrets, now)
        if isinstance(verdict, Forged):
            self._say("webhook refused", source.connection_id, verdict.cause)
            return self._refuse(verdict.cause, _NOT_GENUINE)
        # The bucket of an address is for those who guess: many genuine sources may stand behind one.
        self._addresses.give_back(address)
        request.begin(*_sender_trace(headers))
        payload = _json_object(body)
        if payload is None:
            self._say("webhook refused", source.connection_id, "no JSON object")
            return self._refuse("no_json_object", _NO_OBJECT)
        received = _received(source, verdict, body, payload, media_type, now)
        try:
            async with asyncio.timeout_at(deadline):
                if not await self._admit(source.connection_id, source.per_second):
                    return self._refuse("source_limit", _TOO_MANY)
                outcome = await self._send(received, request)
        except TimeoutError:
            outcome = None
        match outcome:
            case Confirmed():
                return _ACCEPTED
            case Returned(reason) | Nacked(reason) | Refused(reason):
                cause = type(outcome).__name__.lower()
            case Unknown() | None:
                cause, reason = "not_confirmed", "the broker did not confirm in time"
            case _:
                assert_never(outcome)
        self._say("webhook not taken", source.connection_id, reason)
        return self._refuse(cause, _NOT_NOW)

    async def _send(self, received: WebhookReceivedV1, request: RequestTrace) -> Outcome:
        sending = request.begin_send(WEBHOOK_RECEIVED.exchange.name)
        trace = {"traceparent": sending.traceparent, "tracestate": request.tracestate}
        message = translation.to_webhook_received(received, correlation_id=request.correlation_id, trace=trace)
        outcome: Outcome | None = None
        try:
            outcome = await self._publish(message)
            return outcome
        finally:
            sent(sending, message, outcome)

    def _refuse(self, cause: str, answer: Answer) -> Answer:
        self._metrics.webhook_refused(answer.status, cause)
        return answer

    def _say(self, event: str, connection_id: ConnectionId, reason: str) -> None:
        """Log it, once a minute for each connection and reason: senders try again, and so do others."""
        if webhooks := self._seldom.due((connection_id, reason), monotonic()):
            _log.warning(event, connection=str(connection_id), reason=reason, webhooks=webhooks)


def _received(
    source: WebhookSource,
    verified: Verified,
    body: bytes,
    payload: Mapping[str, object],
    media_type: str,
    now: datetime,
) -> WebhookReceivedV1:
    return WebhookReceivedV1(
        company_id=source.company_id,
        connection_id=source.connection_id,
        dedupe_key=dedupe_key(source.scheme, verified, body, payload),
        received_at=now,
        content_type=media_type,
        body=body.decode(),
    )


def _single(headers: Headers, name: bytes) -> bytes | None:
    """The value of a header that came once."""
    found = [value for header, value in headers if header == name]
    return found[0] if len(found) == 1 else None


def _json_media_type(headers: Headers) -> str | None:
    value = _single(headers, b"content-type")
    if value is None or len(value) > _MAX_HEADER or not _JSON.fullmatch(value):
        return None
    if any(header == b"content-encoding" and coding.lower() != b"identity" for header, coding in headers):
        return None
    return value.decode("ascii")


def _json_object(body: bytes) -> dict[str, object] | None:
    """The object, by the grammar of RFC 8259: no NaN, no comments, valid UTF-8; of repeated names the last one counts."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return payload if isinstance(payload, dict) else None


def _sender_trace(headers: Headers) -> tuple[str | None, str | None]:
    """The sender's trace context, where it gave one, once."""
    return trace_context({name: _single(headers, name.encode()) for name in ("traceparent", "tracestate")})


def _address(scope: Scope) -> str:
    """Whose bucket: the address, or of IPv6 the network of 64 bits, which is one customer's."""
    client = scope.get("client")
    host: str = client[0] if client else ""
    if ":" not in host:
        return host
    try:
        return str(int(IPv6Address(host)) >> 64)
    except ValueError:
        return host
