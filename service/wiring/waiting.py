"""Waiting for what is not there yet: with backoff, and saying so once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import ChannelInvalidStateError

from service.domain.errors import Unavailable

__all__ = ["until_there"]

T = TypeVar("T")

_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0

_log: Final = structlog.get_logger(__name__)


async def until_there(what: str, where: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Call `attempt` until it succeeds; a service that is away is waited for, anything else is raised."""
    pause, said = _FIRST_PAUSE_SECONDS, ""
    while True:
        try:
            result = await attempt()
        except (Unavailable, AMQPError, ChannelInvalidStateError, OSError, TimeoutError) as error:
            reason = str(error) if isinstance(error, Unavailable) else type(error).__name__
            if reason != said:
                _log.warning(f"waiting for {what}", where=where, reason=reason)
                said = reason
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # spreads retries, no secret
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        else:
            if said:
                _log.info(f"no longer waiting for {what}", where=where)
            return result
