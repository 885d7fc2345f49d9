"""Answers of the raw doors: problem details (RFC 9457), written once and sent as bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

import orjson
from starlette.types import Send

from service.telemetry.traced import ids

__all__ = ["Answer", "problem", "send_answer", "with_ids"]

_PROBLEM: Final = b"application/problem+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    # The connection ends after it: what the client still sends is not read as a request.
    closes: bool = False
    # It is the same to every byte, whoever asked: ids are told in its headers alone.
    is_constant: bool = False


def problem(status: HTTPStatus, detail: str, *, closes: bool = False, is_constant: bool = False, **headers: str) -> Answer:
    """An error's answer; its header names are given with underscores."""
    body = orjson.dumps({"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail})
    extra = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if closes:
        extra.append((b"connection", b"close"))
    return Answer(status.value, body, (*_entity(_PROBLEM, body), *extra), closes, is_constant)


def with_ids(answer: Answer, correlation_id: str, traceparent: str | None) -> Answer:
    """The answer with the ids under which its request is found: in its headers, and in a problem's details."""
    told = [(b"x-correlation-id", correlation_id.encode())]
    members = f',"correlationId":"{correlation_id}"'
    if (trace := ids(traceparent)) is not None and traceparent is not None:
        told.append((b"traceresponse", traceparent.encode()))
        members += f',"traceId":"{trace[0]}"'
    if answer.is_constant:
        return replace(answer, headers=(*answer.headers, *told))
    # Ids have no characters that JSON would escape.
    body = answer.body[:-1] + members.encode() + b"}"
    (media_type, _, *rest) = answer.headers
    return replace(answer, body=body, headers=(media_type, (b"content-length", str(len(body)).encode()), *rest, *told))


def _entity(media_type: bytes, body: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"content-type", media_type), (b"content-length", str(len(body)).encode()))


async def send_answer(send: Send, answer: Answer, *, last: bool = True) -> None:
    """Send the whole answer; with `last` False the server keeps reading until an empty last part is sent."""
    await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
    await send({"type": "http.response.body", "body": answer.body, "more_body": not last})
