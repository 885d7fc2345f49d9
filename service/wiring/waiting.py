"""Waiting for what is not there yet: with backoff, and saying so once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from aio_pika.exceptions import AMQPError

from service.clients.amqp_connection import says_closed
from service.domain.backoff import WHILE_AWAY
from service.domain.errors import Retry

__all__ = ["until_there"]

T = TypeVar("T")


_log: Final = structlog.get_logger(__name__)


async def until_there(what: str, where: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Call `attempt` until it succeeds; what may pass is waited for, anything else is raised."""
    failures, said = 0, ""
    while True:
        try:
            result = await attempt()
        except (Retry, AMQPError, RuntimeError, OSError, TimeoutError) as error:
            if isinstance(error, RuntimeError) and not says_closed(error):
                raise
            reason = str(error) if isinstance(error, Retry) else type(error).__name__
            if reason != said:
                _log.warning(f"waiting for {what}", where=where, reason=reason)
                said = reason
            failures += 1
            await asyncio.sleep(WHILE_AWAY.after(failures).total_seconds())
        else:
            if said:
                _log.info(f"no longer waiting for {what}", where=where)
            return result
