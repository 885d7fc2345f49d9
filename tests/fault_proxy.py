"""A TCP proxy on loopback that can refuse, cut and stall what goes through it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import urlsplit, urlunsplit

# Where a URL leaves it out, as DATABASE_URL and RABBITMQ_URL may.
_PORTS = {"postgresql": 5432, "postgres": 5432, "amqp": 5672, "http": 80}


class FaultProxy:
    """Stands before a service; `url` is the service's own with the proxy's address in it."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._port = self._parts.port or _PORTS[self._parts.scheme]
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.refusing = False

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str, *, refusing: bool = False) -> AsyncIterator[Self]:
        proxy = cls(url)
        proxy.refusing = refusing
        proxy._server = await asyncio.start_server(proxy._connected, "127.0.0.1", 0)
        try:
            yield proxy
        finally:
            proxy._server.close()
            proxy.cut()

    @property
    def url(self) -> str:
        assert self._server is not None
        user = self._parts.netloc.rpartition("@")[0]
        address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return urlunsplit(self._parts._replace(netloc=f"{user}@{address}" if user else address))

    def cut(self) -> None:
        """Reset every connection."""
        for writer in list(self._writers):
            _reset(writer)

    def stall(self) -> None:
        """Let nothing through, and close nothing."""
        self._flows.clear()

    def flow(self) -> None:
        """Let everything through again."""
        self._flows.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            _reset(writer)
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(self._parts.hostname, self._port)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, up_writer}
        try:
            await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
        finally:
            self._writers -= {writer, up_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
