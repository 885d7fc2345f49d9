"""One HTTP server for the process, without signal handlers of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

__all__ = ["HttpServer"]


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's affair: it drains the other doors first."""
        yield


class HttpServer:
    """Listens as soon as it is made, so that a taken port is an error at once and `port` is known."""

    def __init__(self, routes: Sequence[Route], host: str, port: int) -> None:
        self._socket = socket.create_server((host, port), family=socket.AF_INET, reuse_port=False)
        config = uvicorn.Config(
            Starlette(routes=list(routes)), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=5
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
        finally:
            self._socket.close()
