"""What tests of breaches stand on: a server that speaks the API of Have I Been Pwned (v3), with its answers and its refusals."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

API_KEY = "00112233445566778899aabbccddeeff"


def breach(name: str, *, classes: Sequence[str] = ("Email addresses",), on: str = "2013-10-04", **given: Any) -> dict[str, Any]:
    """A breach as the API describes it."""
    return {
        "Name": name,
        "Title": name.title(),
        "Domain": f"{name.lower()}.example",
        "BreachDate": on,
        "AddedDate": "2013-12-04T00:00:00Z",
        "ModifiedDate": "2022-05-15T23:52:49Z",
        "PwnCount": 152_445_165,
        "Description": f'In October 2013, accounts at <a href="https://{name.lower()}.example">{name}</a> were breached.',
        "LogoPath": f"https://logos.example/{name}.png",
        "Attribution": None,
        "DisclosureUrl": None,
        "DataClasses": list(classes),
        "IsVerified": True,
        "IsFabricated": False,
        "IsSensitive": False,
        "IsRetired": False,
        "IsSpamList": False,
        "IsMalware": False,
        "IsSubscriptionFree": False,
        "IsStealerLog": False,
        **given,
    }


@dataclass
class Refusal:
    """What is answered instead, so many times."""

    status: int
    times: int = 1_000_000
    retry_after: str | None = None
    body: bytes | None = None


@dataclass
class BreachApi:
    """The server; what it knows can be changed while it runs."""

    port: int = 0
    domains: dict[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    breaches: list[dict[str, Any]] = field(default_factory=list)
    # Of domains, or of "breaches".
    refusals: dict[str, Refusal] = field(default_factory=dict)
    # Path and headers, which are in small letters.
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, path: str, headers: Mapping[str, str]) -> tuple[int, bytes, dict[str, str]]:
        self.asked.append((path, {name.lower(): value for name, value in headers.items()}))
        service, _, parameter = path.removeprefix("/api/v3/").partition("/")
        if not headers.get("user-agent"):
            return 403, b"", {}
        refusal = self.refusals.get(unquote(parameter) or service)
        if refusal is not None and refusal.times > 0:
            refusal.times -= 1
            told = {"statusCode": refusal.status, "message": "Rate limit is exceeded. Try again later."}
            wait = {} if refusal.retry_after is None else {"retry-after": refusal.retry_after}
            return refusal.status, refusal.body if refusal.body is not None else _json(told), wait
        if service == "breaches":
            return 200, _json(self.breaches), {}
        if headers.get("hibp-api-key") != API_KEY:
            return 401, _json({"statusCode": 401, "message": "Access denied due to invalid hibp-api-key."}), {}
        if service != "breacheddomain":
            return 404, b"", {}
        if unquote(parameter) not in self.domains:
            return 403, b"", {}
        found = self.domains[unquote(parameter)]
        # A verified domain without any is not found.
        return (200, _json(found), {}) if found else (404, b"", {})


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


@contextmanager
def running_breach_api() -> Iterator[BreachApi]:
    """The server in threads of this process, on a port of its own."""
    api = BreachApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body, headers = api.answer(self.path, self.headers)  # type: ignore[arg-type]  # a message is a mapping without case
            self.send_response(status)
            for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Clients hang up on purpose here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        api.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
