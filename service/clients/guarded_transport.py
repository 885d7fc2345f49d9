"""HTTP to addresses that may be dialled, and to no other: the guard sits where the socket is opened.

A check of the URL, or of a name that is looked up once more to connect, guards nothing: a resolver may answer otherwise the second
time. Here what a connection dials is the very address that was checked for it, of one lookup that was under way or begun then.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Final, TypeAlias

import httpcore
import httpx

from service.clients.blocking_calls import BlockingCalls
from service.domain.addresses import Network, why_closed
from service.domain.errors import Park

__all__ = ["NOT_RESOLVED", "DestinationRefused", "GuardedTransport", "Resolver", "resolve"]

# What `socket.getaddrinfo` makes of a name: its addresses as texts, in the order in which to try them.
Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

# What a ConnectError begins with where there is no such name.
NOT_RESOLVED: Final = "the name cannot be resolved"
_MOST_CONNECTIONS: Final = 10
_IDLE_SECONDS: Final = 30.0
_MOST_ADDRESSES: Final = 8


class DestinationRefused(Park):
    """A name leads to addresses that may not be called; the text says of which kind, never which they are."""


# The system's resolver is one for the process, and so are the threads that wait for it.
_LOOKUPS: Final = BlockingCalls()


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host by the system's resolver; raises OSError. A name of which nobody answers keeps no other waiting."""
    found = await _LOOKUPS.call((host, port), partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
    # Twice the same where a name has several entries in the hosts file.
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _Guard(httpcore.AsyncNetworkBackend):
    """Opens connections to what a name leads to, where that is open."""

    def __init__(self, opened: Sequence[Network], resolver: Resolver) -> None:
        self._opened = opened
        self._resolver = resolver
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        ends_at = None if timeout is None else monotonic() + timeout
        try:
            async with asyncio.timeout(timeout):
                found = await self._resolver(host, port)
        except TimeoutError:
            raise httpcore.ConnectTimeout("the name was not resolved in time") from None
        except (OSError, UnicodeError) as error:
            message = f"{NOT_RESOLVED} ({type(error).__name__})"
            raise httpcore.ConnectError(message) from None
        failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in self._open_ones(host, found):
            left = None if ends_at is None else max(0.0, ends_at - monotonic())
            try:
                return await self._network.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError("the name has no address")

    def _open_ones(self, host: str, found: Sequence[str]) -> list[str]:
        reasons = {address: why_closed(address, self._opened) for address in found[:_MOST_ADDRESSES]}
        open_ones = [address for address, reason in reasons.items() if reason is None]
        if reasons and not open_ones:
            kinds = ", ".join(sorted({reason for reason in reasons.values() if reason}))
            message = f"{host} leads to an address that may not be called ({kinds}); the operator's ALLOW_NETWORKS opens networks"
            raise DestinationRefused(message)
        return open_ones

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.UnsupportedProtocol("nothing is called over a Unix socket")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class GuardedTransport(httpx.AsyncBaseTransport):
    """httpx over connections that the guard opened; raises httpx's errors and DestinationRefused."""

    def __init__(
        self, opened: Sequence[Network] = (), *, resolver: Resolver = resolve, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        # httpx's own transport takes no network backend, and httpcore's pool is what it is made of.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context if ssl_context is not None else httpx.create_ssl_context(),
            max_connections=_MOST_CONNECTIONS,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=_Guard(opened, resolver),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the body of the answer is still to be read."""
        with _translated():
            answer = await self._pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for part in self._answer.aiter_stream():
                yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


@contextmanager
def _translated() -> Iterator[None]:
    """The errors of httpcore as those of httpx, which have the same names."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from None
    except ssl.SSLError as error:
        # After the handshake, as where a certificate of ours is wanted: httpcore lets it through.
        raise httpx.ReadError(type(error).__name__) from None
