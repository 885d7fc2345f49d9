"""Sends one notification to one subscriber: over the guarded way, without following anybody, within a bound of time and size."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from time import monotonic
from typing import Final

import httpx

from service.clients.guarded_transport import NOT_RESOLVED, DestinationRefused, GuardedTransport, Resolver, resolve
from service.clients.retries import retry_after_of
from service.domain.addresses import Network
from service.domain.notifications.delivery import Delivered, ErrorClass, Failed, Gone, Outcome
from service.domain.notifications.subscriber import SubscriberId

__all__ = ["NotificationSender", "SendLimits"]

_IDLE_SECONDS: Final = 60.0
_MOST_HEADER_WAIT: Final = timedelta(hours=24)
_CERTIFICATE: Final = "CERTIFICATE_VERIFY_FAILED"


@dataclass(frozen=True, slots=True)
class SendLimits:
    """How long one attempt may take, and how much of an answer is kept."""

    connect: timedelta = timedelta(seconds=5)
    whole: timedelta = timedelta(seconds=15)
    # Once the status is known: the rest is for people to read.
    body: timedelta = timedelta(seconds=2)
    most_bytes: int = 2048


@dataclass(slots=True)
class _Way:
    """The connections to one subscriber, which it shares with nobody."""

    transport: GuardedTransport
    used_at: float
    in_use: int = 0


@dataclass(slots=True)
class NotificationSender:
    """Connections to subscribers, each with its own, kept while they are used."""

    opened: Sequence[Network] = ()
    limits: SendLimits = field(default_factory=SendLimits)
    resolver: Resolver = resolve
    ssl_context: ssl.SSLContext | None = None
    _ways: dict[tuple[SubscriberId, str], _Way] = field(default_factory=dict, init=False)

    async def send(self, subscriber_id: SubscriberId, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """POST, and what came of it; raises nothing that the other side could cause."""
        try:
            target = httpx.URL(url)
            request = httpx.Request(
                "POST",
                target,
                headers={"user-agent": "rollcall", "accept-encoding": "identity", **headers},
                content=body,
                extensions={"timeout": self._timeouts()},
            )
        except (httpx.InvalidURL, UnicodeError):
            return Failed(ErrorClass.BROKEN, "the address cannot be read")
        host = target.host
        whole = asyncio.timeout(self.limits.whole.total_seconds())
        try:
            async with self._way(subscriber_id, target) as transport:
                async with whole:
                    response = await transport.handle_async_request(request)
                try:
                    text = await self._beginning(response)
                finally:
                    await response.aclose()
                return _outcome(response, host, text)
        except DestinationRefused as error:
            return Failed(ErrorClass.REFUSED, str(error))
        except TimeoutError:
            if not whole.expired():
                raise
            return Failed(ErrorClass.TIMEOUT, f"{host} did not answer within {self.limits.whole.total_seconds():g} s")
        except httpx.TimeoutException as error:
            return Failed(ErrorClass.TIMEOUT, f"{host} does not answer in time ({type(error).__name__})")
        except httpx.ConnectError as error:
            return Failed(ErrorClass.UNREACHABLE, f"{host} cannot be reached ({_why(error)})")
        except (httpx.NetworkError, httpx.ProtocolError, httpx.UnsupportedProtocol) as error:
            return Failed(ErrorClass.BROKEN, f"{host} broke off, or does not speak HTTP ({type(error).__name__})")

    async def close(self) -> None:
        """Close all connections."""
        ways, self._ways = list(self._ways.values()), {}
        for way in ways:
            await way.transport.aclose()

    def _timeouts(self) -> dict[str, float]:
        whole = self.limits.whole.total_seconds()
        return {"connect": self.limits.connect.total_seconds(), "read": whole, "write": whole, "pool": whole}

    async def _beginning(self, response: httpx.Response) -> str | None:
        """What the body begins with, as text that can be stored and shown; whatever becomes of it, the status is what counts."""
        read = bytearray()
        try:
            async with asyncio.timeout(self.limits.body.total_seconds()):
                async for part in response.aiter_raw():
                    read += part
                    if len(read) >= self.limits.most_bytes:
                        break
        except (TimeoutError, httpx.HTTPError):
            # What came until then is what is kept.
            pass
        text = bytes(read[: self.limits.most_bytes]).decode(errors="replace")
        return "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text) or None

    @asynccontextmanager
    async def _way(self, subscriber_id: SubscriberId, target: httpx.URL) -> AsyncIterator[GuardedTransport]:
        await self._close_idle()
        key = (subscriber_id, f"{target.scheme}://{target.netloc.decode('ascii')}")
        way = self._ways.get(key)
        if way is None:
            if self.ssl_context is None:
                # Reads the certificates of all authorities, which takes 20 ms: once for all.
                self.ssl_context = httpx.create_ssl_context()
            transport = GuardedTransport(self.opened, resolver=self.resolver, ssl_context=self.ssl_context)
            way = self._ways[key] = _Way(transport, monotonic())
        way.in_use += 1
        try:
            yield way.transport
        finally:
            way.in_use -= 1
            way.used_at = monotonic()

    async def _close_idle(self) -> None:
        longest = monotonic() - _IDLE_SECONDS
        idle = [key for key, way in self._ways.items() if not way.in_use and way.used_at < longest]
        # All at once: while one closes, others come here too, and none of these may be used any more.
        for way in [self._ways.pop(key) for key in idle]:
            await way.transport.aclose()


def _asked_wait(headers: httpx.Headers) -> timedelta | None:
    wait = retry_after_of(headers)
    return None if wait is None else min(wait, _MOST_HEADER_WAIT)


def _why(error: httpx.ConnectError) -> str:
    """Without the addresses that the library's texts name."""
    text = str(error)
    if _CERTIFICATE in text:
        return "its certificate is not accepted"
    return text if text.startswith(NOT_RESOLVED) else type(error).__name__


def _outcome(response: httpx.Response, host: str, text: str | None) -> Outcome:
    status = response.status_code
    if response.is_success:
        return Delivered(status, text)
    if status == HTTPStatus.GONE:
        return Gone(text)
    if response.is_redirect or response.is_informational:
        return Failed(ErrorClass.REDIRECT, f"{host} answers {status}, and nobody is followed elsewhere", status, response=text)
    return Failed(ErrorClass.STATUS, f"{host} answers {status}", status, _asked_wait(response.headers), text)
