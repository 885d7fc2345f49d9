"""What every route of the admin API does before its own work: the key, then the body, within bounds and as strict JSON."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final, assert_never

import orjson
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from contracts.envelope import trace_context
from service.entrypoints.http.admin.principal import authenticate
from service.entrypoints.http.admin.problems import ProblemError, documented
from service.entrypoints.http.request_body import BodyProblem, BodyReader
from service.entrypoints.http.request_trace import RequestTrace

__all__ = ["AdminRoute", "admin_router"]

_JSON: Final = re.compile(r'application/([a-z0-9.-]+\+)?json\s*(;\s*charset="?utf-?8"?\s*)?', re.IGNORECASE)
# What is written again, for a fingerprint or an answer, may be nested 254 times at the most.
_DEEPEST: Final = 128
_WRITES: Final = frozenset({"POST", "PUT", "PATCH"})

_ALWAYS: Final = documented(
    {
        400: "it is not said which company is meant, or the body is no JSON",
        401: "there is no key, or it opens nothing",
        403: "the key lacks the scope",
        404: "it is not there, or not the company's",
        422: "the request does not fit; see errors",
        500: "something failed in a way that has no rule; the correlation id finds it in the log",
        503: "the database is away, or the admin API is switched off; try again",
    }
)
_OF_BODIES: Final = documented(
    {
        408: "the body did not arrive in time",
        413: "the body has more than 1 MiB",
        415: "the body must be JSON in UTF-8, not encoded",
    }
)


class AdminRoute(APIRoute):
    """A route that knows who asks before it reads what they send."""

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, responses: Mapping[int | str, Any] | None = None, **options: Any
    ) -> None:
        of_body = _OF_BODIES if _WRITES.intersection(options.get("methods") or ()) else {}
        super().__init__(path, endpoint, responses={**_ALWAYS, **of_body, **(responses or {})}, **options)

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]  # a coroutine is one
        """The route's work behind the checks."""
        work = super().get_route_handler()

        async def handler(request: Request) -> Response:
            trace: RequestTrace = request.state.trace
            trace.route = self.path_format
            caller = await authenticate(request.app.state.setting, request)
            request.state.caller = caller
            # Whoever has a key is believed to be part of the trace that they name.
            trace.begin(*_sender_trace(request))
            _refuse_nul(request.url.query, "query")
            if self.body_field is None:
                return await work(request)
            return await _with_body(request, work)

        return handler


def admin_router(tag: str) -> APIRouter:
    """A router whose routes are of this kind."""
    return APIRouter(route_class=AdminRoute, tags=[tag], generate_unique_id_function=_operation_id)


def _operation_id(route: APIRoute) -> str:
    """What generated clients call a route: its module and its function."""
    return f"{route.endpoint.__module__.rpartition('.')[2]}_{route.name}"


class _JsonRequest(Request):
    """A request whose body was read, and understood."""

    def __init__(self, scope: Scope, receive: Receive, raw: bytes, value: Any) -> None:
        super().__init__(scope, receive)
        self._raw, self._value = raw, value

    async def body(self) -> bytes:
        return self._raw

    async def json(self) -> Any:
        return self._value


async def _with_body(request: Request, work: Callable[[Request], Awaitable[Response]]) -> Response:
    bodies: BodyReader = request.app.state.bodies
    length = request.headers.get("content-length")
    body = await bodies.read(request.receive, None if length is None else length.encode("latin-1"))
    match body:
        case BodyProblem.TOO_LARGE:
            raise _closing(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a body has at most 1 MiB")
        case BodyProblem.TOO_SLOW | BodyProblem.GONE:
            raise _closing(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time")
        case BodyProblem.BUSY:
            raise _closing(HTTPStatus.SERVICE_UNAVAILABLE, "too many bodies at once; try again", {"Retry-After": "1"})
        case bytes():
            pass
        case _:
            assert_never(body)
    try:
        value = _understood(request, body) if body else None
        request.state.body = value
        return await work(_JsonRequest(request.scope, request.receive, body, value))
    finally:
        bodies.release(body)


def _understood(request: Request, body: bytes) -> Any:
    headers = request.headers
    coding = headers.get("content-encoding", "identity").lower()
    if not _JSON.fullmatch(headers.get("content-type", "")) or coding != "identity":
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be JSON in UTF-8, not encoded")
    try:
        value = orjson.loads(body)
        # The faster one knows the grammar, the slower one finds what says two things at once.
        _DECODER.decode(body.decode())
    except (orjson.JSONDecodeError, JSONDecodeError):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the body is no JSON (RFC 8259)") from None
    except _Ambiguous:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "an object in the body has the same name twice") from None
    except RecursionError:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the body is nested too deeply") from None
    if _is_deeper_than(value, _DEEPEST):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the body is nested too deeply")
    if b"\\u0000" in body and _has_nul(value):
        raise ProblemError.wrong("body", "must hold no NUL characters")
    return value


class _Ambiguous(ValueError):
    """An object names a field twice, and nobody knows which is meant."""


def _pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Ambiguous
    return found


_DECODER: Final = JSONDecoder(object_pairs_hook=_pairs, parse_int=float, parse_float=float)


def _is_deeper_than(value: Any, most: int) -> bool:
    """Whether there is an array or object inside more than so many others."""
    level = [value]
    for _ in range(most + 1):
        parts = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [part for inside in parts for part in inside if isinstance(part, dict | list)]
        if not level:
            return False
    return True


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, Mapping):
        return any(_has_nul(name) or _has_nul(part) for name, part in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


def _refuse_nul(query: str, where: str) -> None:
    if "%00" in query:
        raise ProblemError.wrong(where, "must hold no NUL characters")


def _sender_trace(request: Request) -> tuple[str | None, str | None]:
    given = {name: request.headers.getlist(name) for name in ("traceparent", "tracestate")}
    return trace_context({name: values[0].encode("latin-1") if len(values) == 1 else None for name, values in given.items()})


def _closing(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> ProblemError:
    """What is still being sent is not read as another request."""
    return ProblemError(status, detail, headers={"Connection": "close", **(headers or {})})
