"""What goes wrong with the directory, by request: switched from outside, applied around Django's own answers."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

# In the query of every request but the first of a reading.
PLACES = ("page", "offset", "cursor")


@dataclass
class Fault:
    """Of a page, so many times; `page` 0 is every page."""

    kind: str
    page: int = 1
    times: int = 1_000_000
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class State:
    """Shared by the threads of the server."""

    key: str = "s3cret-key"
    auth: str = "Bearer"
    faults: list[Fault] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    # Pages of the reading under way that were answered as they should be.
    served: int = 0
    # Merged into records, by their id.
    dress: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    change: Callable[[dict[str, Any]], None] = lambda change: None

    def dressed(self, record: dict[str, Any]) -> dict[str, Any]:
        return record | self.dress.get(str(record["id"]), {}) if self.dress else record

    def take(self, page: int, *kinds: str) -> Fault | None:
        for fault in self.faults:
            if fault.kind in kinds and fault.page in (0, page) and fault.times > 0:
                fault.times -= 1
                return fault
        return None


STATE = State()
# The socket that this thread answers on.
HERE = threading.local()

INSTEAD = ("status", "html", "empty", "redirect", "drip", "hang")
AFTER = ("truncated", "broken-off", "count", "next", "repeat", "body")


class Faults:
    """Middleware, the outermost."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        if not request.path.endswith("/"):
            return self.get_response(request)
        with STATE.lock:
            if not any(place in request.GET for place in PLACES):
                STATE.served = 0
            page = STATE.served + 1
            seen = {"path": request.get_full_path(), "authorization": request.headers.get("authorization"), "at": time.monotonic()}
            STATE.requests.append(seen)
            instead = STATE.take(page, *INSTEAD)
        if instead is not None:
            return self.instead(instead)
        answer = self.get_response(request)
        with STATE.lock:
            mangle = STATE.take(page, *AFTER)
            change = STATE.take(page, "change")
            if answer.status_code == 200 and (mangle is None or mangle.kind != "broken-off"):
                STATE.served += 1
        if change is not None:
            STATE.change(change.options)
        return answer if mangle is None else self.mangled(mangle, answer)

    def instead(self, fault: Fault) -> HttpResponse | StreamingHttpResponse:
        options = fault.options
        match fault.kind:
            case "status":
                headers = {"Retry-After": options["retry_after"]} if "retry_after" in options else {}
                return HttpResponse(b'{"detail": "no"}', status=options["code"], headers=headers, content_type="application/json")
            case "html":
                return HttpResponse("<!doctype html><title>Log in</title><p>Anna Secret</p>")
            case "empty":
                return HttpResponse(b"", content_type="application/json")
            case "redirect":
                return HttpResponse(status=302, headers={"Location": options["to"]})
            case "drip":
                return StreamingHttpResponse(drip(options["every"]), content_type="application/json")
            case _:
                time.sleep(options["seconds"])
                return HttpResponse(b"{}", content_type="application/json")

    def mangled(self, fault: Fault, answer: HttpResponse) -> HttpResponse | StreamingHttpResponse:
        body = answer.content
        match fault.kind:
            case "truncated":
                return HttpResponse(body[: len(body) // 2], content_type="application/json")
            case "broken-off":
                half = StreamingHttpResponse(broken_off(body[: len(body) // 2]), content_type="application/json")
                half["Content-Length"] = str(len(body))
                return half
            case "body":
                return HttpResponse(json.dumps(fault.options["body"]), content_type="application/json")
        listing = json.loads(body)
        if fault.kind == "count":
            listing["count"] = fault.options["count"]
        elif fault.kind == "next":
            listing["next"] = fault.options["next"]
        else:
            listing["results"] += listing["results"][: fault.options["records"]]
        return HttpResponse(json.dumps(listing), content_type="application/json")


def drip(every: float) -> Iterator[bytes]:
    while True:
        yield b" "
        time.sleep(every)


def broken_off(part: bytes) -> Iterator[bytes]:
    """Less than was promised, and then the connection ends."""
    yield part
    HERE.connection.shutdown(socket.SHUT_RDWR)
