"""Whether a RabbitMQ URL can be used: its form, its vhost, and that somebody answers."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote, urlsplit

import aiormq
from aiormq.exceptions import AMQPError

from deploy.local_stack.databases import in_thread, masked
from deploy.local_stack.errors import StackUnavailable

_TIMEOUT_SECONDS = 10.0


def vhost(url: str) -> str:
    """Return the vhost a URL names; none named is the default vhost, "/"."""
    return unquote(urlsplit(url).path[1:]) or "/"


def check_vhost_is_own(url: str) -> None:
    """Raise StackUnavailable for the default vhost: others may use it, and tests and the demo fill and empty queues."""
    if vhost(url) == "/":
        raise StackUnavailable(
            f'RABBITMQ_URL ({masked(url)}) names the default vhost "/", which is not for tests and demos. Make one of '
            "your own and put it at the end of the URL: rabbitmqctl add_vhost rollcall && "
            f"rabbitmqctl set_permissions -p rollcall {urlsplit(url).username or 'guest'} '.*' '.*' '.*'"
        )


def check_broker(url: str) -> str:
    """Return the broker's version; raise StackUnavailable when it does not answer within 10 s or refuses us."""

    async def ask() -> str:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            connection = await aiormq.connect(url)
        try:
            return str(connection.server_properties.get("version", "of unknown version"))
        finally:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await connection.close()

    try:
        return in_thread(ask)
    except (OSError, TimeoutError, ValueError, AMQPError) as error:
        reason = str(error) or type(error).__name__
        raise StackUnavailable(f"RabbitMQ at {masked(url)}: {reason}") from error
