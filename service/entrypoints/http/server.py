"""One HTTP server for the process, without signal handlers of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.entrypoints.http.connections import BoundedProtocol
from service.entrypoints.http.webhooks import PREFIX
from service.settings import SettingsError

__all__ = ["HttpServer"]


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's affair: it drains the other doors first."""
        yield


class HttpServer:
    """Listens as soon as it is made, so that a taken port is an error at once and `port` is known."""

    def __init__(
        self,
        routes: Sequence[Route],
        host: str,
        port: int,
        *,
        webhooks: ASGIApp | None = None,
        admin: ASGIApp | None = None,
        trusted_proxies: str = "127.0.0.1",
    ) -> None:
        try:
            self._socket = socket.create_server((host, port), family=socket.AF_INET, reuse_port=False)
            # Also of what it accepts: an answer's body would wait 40 ms for the client's word that it has the headers. uvloop sees
            # to it by itself, asyncio not where it is given a socket.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            message = f"HOST, PORT: cannot listen on {host}:{port} ({error.strerror})"
            raise SettingsError(message) from None
        app: ASGIApp = Starlette(routes=list(routes))
        if admin is not None:
            app = _with_admin(admin, app, frozenset(route.path for route in routes))
        config = uvicorn.Config(
            app if webhooks is None else _with_webhooks(webhooks, app),
            http=BoundedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            forwarded_allow_ips=trusted_proxies,
            timeout_graceful_shutdown=5,
        )
        self._server = _Server(config)

    @property
    def port(self) -> int:
        """The port it listens on; of its own choosing where 0 was asked for."""
        port: int = self._socket.getsockname()[1]
        return port

    async def run(self) -> None:
        """Serve until cancelled, then finish the requests that are being answered."""
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="http server")
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self._server.should_exit = True
            await serving
            raise
        else:
            raise RuntimeError("the HTTP server ended by itself")
        finally:
            self._socket.close()


def _with_admin(admin: ASGIApp, rest: ASGIApp, of_the_rest: Collection[str]) -> ASGIApp:
    """Probes stay with themselves, whatever becomes of the admin API; every other path is its."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (rest if scope["path"] in of_the_rest else admin)(scope, receive, send)

    return app


def _with_webhooks(webhooks: ASGIApp, rest: ASGIApp) -> ASGIApp:
    """Webhooks go round the framework: it would cost a third of their time."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (webhooks if scope["path"].startswith(PREFIX) else rest)(scope, receive, send)

    return app
