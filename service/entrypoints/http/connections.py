"""One TCP connection of the HTTP server: what uvicorn leaves open for ever ends here."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["BoundedProtocol"]

_HEAD_SECONDS: Final = 10.0
_MESSAGE_SECONDS: Final = 20.0
_LARGEST_HEAD: Final = 64 * 1024

_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """A request's head arrives within 10 s and 64 KiB, the whole request within 20 s; doors may be stricter."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        # What the parser says while it reads; a request that comes in one piece needs no timer at all.
        self._limit: float | None = None
        self._limit_changed = False
        self._head_bytes = 0
        self._in_head = True
        self._begun = False
        self._unanswered = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the class above
        """Wait for the first request no longer than for the rest of one."""
        super().connection_made(transport)
        self._end_within(_HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._end_within(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the head while it is one: the parser collects it without bound."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._limit_changed:
            self._end_within(self._limit)
        if self._in_head and self._head_bytes > _LARGEST_HEAD:
            self._close_with(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._begun = True, True
        self._limit, self._limit_changed = _HEAD_SECONDS, True

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._in_head, self._head_bytes = False, 0
        self._limit, self._limit_changed = _MESSAGE_SECONDS, True
        self._unanswered += 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it is there; between requests the server's own keep-alive limit counts."""
        self._limit, self._limit_changed = None, True
        self._in_head, self._begun, self._head_bytes = True, False, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A request is answered."""
        self._unanswered -= 1
        super().on_response_complete()

    def _end_within(self, seconds: float | None) -> None:
        self._limit_changed = False
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._close_with, _TOO_SLOW)

    def _close_with(self, answer: bytes) -> None:
        """End the connection, with an answer where a request has begun and no other is being answered."""
        if self.transport.is_closing():
            return
        if self._begun and self._in_head and not self._unanswered:
            self.transport.write(answer)
        self.transport.close()
