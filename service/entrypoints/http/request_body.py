"""A request's body, read within bounds of size and time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from starlette.types import Receive

__all__ = ["BodyProblem", "BodyReader", "drain"]

_MOST_DIGITS: Final = 18
_DRAIN_SECONDS: Final = 2.0
_DRAIN_BYTES: Final = 16 * 1024 * 1024


class BodyProblem(Enum):
    """Why there is no body."""

    TOO_LARGE = auto()
    TOO_SLOW = auto()
    GONE = auto()
    BUSY = auto()


@dataclass(slots=True)
class BodyReader:
    """Reads bodies of up to `largest` bytes within `seconds` each, and holds up to `budget` bytes of all of them at once."""

    largest: int
    seconds: float
    budget: int
    held: int = 0

    async def read(self, receive: Receive, content_length: bytes | None) -> bytes | BodyProblem:
        """The body, which counts as held until `release`; or why there is none."""
        # The server has checked that it is a number; what is not shorter than the largest one is no smaller either.
        if content_length is not None and (len(content_length) > _MOST_DIGITS or int(content_length) > self.largest):
            return BodyProblem.TOO_LARGE
        parts: list[bytes] = []
        size = 0
        whole = False
        try:
            async with asyncio.timeout(self.seconds):
                while not whole:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return BodyProblem.GONE
                    part = message.get("body", b"")
                    size += len(part)
                    self.held += len(part)
                    if size > self.largest:
                        return BodyProblem.TOO_LARGE
                    if self.held > self.budget:
                        return BodyProblem.BUSY
                    parts.append(part)
                    whole = not message.get("more_body", False)
        except TimeoutError:
            return BodyProblem.TOO_SLOW
        finally:
            if not whole:
                self.held -= size
        return b"".join(parts)

    def release(self, body: bytes) -> None:
        """The body is no longer held."""
        self.held -= len(body)


async def drain(receive: Receive) -> None:
    """Read and forget, for a while: a connection that is closed over unread bytes is reset, and its client may lose the answer."""
    size = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while size <= _DRAIN_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                size += len(message.get("body", b""))
    except TimeoutError:
        return
