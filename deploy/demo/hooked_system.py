"""A system that is told over HTTP: a server in a thread of its own, which believes what the official library verifies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

__all__ = ["HookedSystem", "running_hooked_system"]

_LARGEST: Final = 1024 * 1024


class HookedSystem:
    """Takes each notification once, by its id; while it is `away` it takes none. What it keeps is a book of what it got."""

    def __init__(self, secret: str) -> None:
        # Here: it takes a while to import, and no other chapter needs it in this place.
        from standardwebhooks.webhooks import Webhook, WebhookVerificationError

        self.url = ""
        self.away = False
        self.turned_away = self.unbelieved = self.repeats = self.out_of_order = 0
        # By member, the greatest version that was told.
        self.latest: dict[str, int] = {}
        self._webhook, self._refusal = Webhook(secret), WebhookVerificationError
        self._ids: set[str] = set()
        # Requests come in threads of their own.
        self._lock = threading.Lock()

    @property
    def delivered(self) -> int:
        """How many notifications were taken, each once."""
        return len(self._ids)

    def take(self, headers: dict[str, str], body: bytes) -> HTTPStatus:
        """One request, and what it is answered."""
        with self._lock:
            if self.away:
                self.turned_away += 1
                return HTTPStatus.SERVICE_UNAVAILABLE
            try:
                self._webhook.verify(body, headers)
            except self._refusal:
                self.unbelieved += 1
                return HTTPStatus.UNAUTHORIZED
            self._note(headers["webhook-id"], json.loads(body)["data"])
            return HTTPStatus.NO_CONTENT

    def _note(self, identity: str, event: dict[str, object]) -> None:
        if identity in self._ids:
            self.repeats += 1
            return
        self._ids.add(identity)
        member, version = str(event["memberId"]), int(str(event["version"]))
        if version != self.latest.get(member, 0) + 1:
            self.out_of_order += 1
        self.latest[member] = max(version, self.latest.get(member, 0))


@contextmanager
def running_hooked_system(secret: str) -> Iterator[HookedSystem]:
    """The system, listening on a port of its own until the end."""
    system = HookedSystem(secret)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # http.server's name
            """Take a notification."""
            length = int(self.headers.get("content-length", "0"))
            if length > _LARGEST:
                self.close_connection = True
                self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = system.take(headers, self.rfile.read(length))
            self.send_response(status)
            if status is not HTTPStatus.NO_CONTENT:
                self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
            """Say nothing: the screen is the demo's."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        # Of five, the default, a sixth connection at once is dropped, and tried again after a second.
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        system.url = f"http://127.0.0.1:{server.server_port}/rollcall"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="hooked system")
        serving.start()
        try:
            yield system
        finally:
            server.shutdown()
            serving.join()
