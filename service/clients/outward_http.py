"""The one way out: HTTP to directories and to whatever else a company names, guarded, bounded in time and size, and retried.

OutwardError
├── OutwardUnavailable    no answer, none in time, 429 or 5xx: later it may work; `retry_after` is what the other side asked for
└── OutwardBroken         an answer that nobody can use: a redirect elsewhere, too large, not HTTP
DestinationRefused        the address may not be called (guarded_transport.py)

Texts name the host and what happened, never a path's query, a header or a body.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Final, Self

import httpx
from httpx_retries import RetryTransport

from service.clients.guarded_transport import DestinationRefused, GuardedTransport, Resolver, resolve
from service.clients.retries import may_pass, retry_after_of, retrying
from service.domain.addresses import Network

__all__ = [
    "Answer",
    "DestinationRefused",
    "OutwardBroken",
    "OutwardError",
    "OutwardHttp",
    "OutwardLimits",
    "OutwardUnavailable",
]

_MOST_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# Headers that told of the body before it was decoded.
_OF_THE_TRANSFER: Final = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
# In the extensions of a request that wants its answer as it comes.
_AS_IT_COMES: Final = "rollcall.as_it_comes"


@dataclass(frozen=True, slots=True)
class OutwardLimits:
    """How long and how much; the whole time is that of one attempt, and counts what is spent waiting for the other side."""

    connect: timedelta = timedelta(seconds=10)
    read: timedelta = timedelta(seconds=30)
    whole: timedelta = timedelta(minutes=2)
    most_bytes: int = 32 * 1024 * 1024
    attempts: int = 4
    # Of the wait before the second attempt, doubled for each one after it, less a random part.
    backoff: timedelta = timedelta(seconds=1)
    # Waits that the other side asks for are kept here as long as they are not longer; of a longer one the caller is told.
    longest_wait: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read to its end; `url` is where it came from after redirects."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    url: httpx.URL = field(repr=False)


class OutwardError(Exception):
    """A call to the outside brought nothing; the text says why."""


class OutwardUnavailable(OutwardError):
    """The other side does not answer, or says that it cannot now."""

    def __init__(self, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OutwardBroken(OutwardError):
    """The other side answers what cannot be used."""


class _TooSlow(httpx.HTTPError):
    """The whole time is over; not tried again at once, since it took so long already."""


class _TooLarge(httpx.HTTPError):
    """The body is larger than may be."""


class OutwardHttp:
    """A client for one origin, such as `https://members.example`: it sends its headers there and nowhere else."""

    def __init__(
        self,
        origin: str,
        headers: Mapping[str, str] | None = None,
        *,
        opened: Sequence[Network] = (),
        limits: OutwardLimits | None = None,
        resolver: Resolver = resolve,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits = limits or OutwardLimits()
        self._origin = httpx.URL(origin)
        self._client = httpx.AsyncClient(
            # What these make of one part is at most a thousand times the part.
            headers={"user-agent": "rollcall", "accept-encoding": "gzip, deflate", **(headers or {})},
            transport=RetryTransport(
                _WholeAnswers(GuardedTransport(opened, resolver=resolver, ssl_context=ssl_context), limits),
                retrying(limits.attempts, limits.backoff, limits.longest_wait),
            ),
            timeout=httpx.Timeout(limits.read.total_seconds(), connect=limits.connect.total_seconds()),
            # A proxy of the environment would dial for us, unguarded.
            trust_env=False,
            follow_redirects=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def get(self, url: httpx.URL) -> Answer:
        """The answer to a GET, whatever its status below 500 but 429; redirects are followed on this origin only.

        Raises OutwardError and DestinationRefused.
        """
        async with self._open(url) as response:
            return Answer(response.status_code, response.headers, response.content, response.url)

    @asynccontextmanager
    async def stream(self, url: httpx.URL) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """The status of the answer to a GET and its body as it comes; `most_bytes` and `whole` hold for it too. Raises as `get`."""
        async with self._open(url, {_AS_IT_COMES: True}) as response:
            yield response.status_code, self._parts(response)

    async def _parts(self, response: httpx.Response) -> AsyncIterator[bytes]:
        with _said(self._origin.host):
            async for part in _bounded(response, self._limits):
                yield part

    @asynccontextmanager
    async def _open(self, url: httpx.URL, extensions: dict[str, bool] | None = None) -> AsyncIterator[httpx.Response]:
        self._check(url, "the address")
        for _ in range(_MOST_REDIRECTS + 1):
            request = self._client.build_request("GET", url, extensions=extensions)
            with _said(self._origin.host):
                response = await self._client.send(request, stream=True)
            try:
                if response.status_code in _REDIRECTS:
                    url = self._target(response)
                    continue
                self._refuse_unavailable(response)
                yield response
                return
            finally:
                await response.aclose()
        message = f"{self._origin.host} redirects in a circle, or more than {_MOST_REDIRECTS} times"
        raise OutwardBroken(message)

    def _target(self, response: httpx.Response) -> httpx.URL:
        try:
            target = response.url.join(response.headers.get("location", ""))
        except httpx.InvalidURL:
            message = f"{self._origin.host} redirects to what is no address"
            raise OutwardBroken(message) from None
        self._check(target, f"{self._origin.host} redirects, and that")
        return target

    def _check(self, url: httpx.URL, what: str) -> None:
        """The key goes with every request, so there is one place only that it may go to."""
        if _origin(url) != _origin(self._origin) or url.userinfo:
            message = f"{what} leads to {_shown(url)}, which is not the configured {_shown(self._origin)}; it is not followed there"
            raise OutwardBroken(message)

    def _refuse_unavailable(self, response: httpx.Response) -> None:
        if not may_pass(response.status_code):
            return
        wait = retry_after_of(response.headers)
        asked = f" and asks for {wait.total_seconds():.0f} s" if wait is not None else ""
        message = f"{self._origin.host} answers {response.status_code}{asked}"
        raise OutwardUnavailable(message, wait)


class _WholeAnswers(httpx.AsyncBaseTransport):
    """Reads answers to their end before anybody above sees them: one that breaks off is tried again, as one that never came."""

    def __init__(self, below: httpx.AsyncBaseTransport, limits: OutwardLimits) -> None:
        self._below = below
        self._limits = limits

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        budget = asyncio.timeout(self._limits.whole.total_seconds())
        try:
            async with budget:
                response = await self._below.handle_async_request(request)
                if request.extensions.get(_AS_IT_COMES):
                    return response
                try:
                    body = b"".join([part async for part in _bounded(response, self._limits)])
                finally:
                    await response.aclose()
        except TimeoutError:
            if not budget.expired():
                raise
            raise _TooSlow("") from None
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_THE_TRANSFER]
        return httpx.Response(response.status_code, headers=headers, content=body, extensions=response.extensions)

    async def aclose(self) -> None:
        await self._below.aclose()


async def _bounded(response: httpx.Response, limits: OutwardLimits) -> AsyncIterator[bytes]:
    """The decoded body; the time that whoever reads it takes in between is not the other side's."""
    size, left = 0, limits.whole.total_seconds()
    parts = response.aiter_bytes()
    while True:
        began = monotonic()
        budget = asyncio.timeout(left)
        try:
            async with budget:
                part = await anext(parts, None)
        except TimeoutError:
            if not budget.expired():
                raise
            raise _TooSlow("") from None
        if part is None:
            return
        left -= monotonic() - began
        size += len(part)
        if size > limits.most_bytes:
            raise _TooLarge(f"{limits.most_bytes // 1024**2} MiB" if limits.most_bytes >= 1024**2 else f"{limits.most_bytes} bytes")
        yield part


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _shown(url: httpx.URL) -> str:
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.host}{port}"


@contextmanager
def _said(host: str) -> Iterator[None]:
    """The library's errors in words of ours."""
    try:
        yield
    except _TooSlow:
        message = f"{host} did not finish its answer in time"
        raise OutwardUnavailable(message) from None
    except _TooLarge as error:
        message = f"{host} answers more than {error}"
        raise OutwardBroken(message) from None
    except httpx.TimeoutException as error:
        message = f"{host} does not answer in time ({type(error).__name__})"
        raise OutwardUnavailable(message) from None
    except (httpx.DecodingError, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
        message = f"{host} cannot be talked to ({type(error).__name__})"
        raise OutwardBroken(message) from None
    except httpx.TransportError as error:
        message = f"{host} cannot be reached, or broke off its answer ({type(error).__name__})"
        raise OutwardUnavailable(message) from None
