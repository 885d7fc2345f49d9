"""Publishing over a connection that ends: what the library does with whoever waits is told as what it is."""

from __future__ import annotations

import asyncio
from typing import Any

import aio_pika
import pytest

from contracts.channels import SCHEDULE_TICK
from service.clients.inbound import InboundPublisher
from service.domain.errors import Unavailable
from tests.service_rig import envelope


class Exchange:
    """Its broker goes while a confirm is awaited, and the library cancels the wait."""

    async def publish(self, *_: Any, **__: Any) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(waiting.set_exception, asyncio.CancelledError())
        await waiting


class Channel:
    async def get_exchange(self, *_: Any, **__: Any) -> Exchange:
        return Exchange()


async def test_a_wait_that_the_library_cancels_is_a_broker_that_is_away() -> None:
    publisher = InboundPublisher(Channel())  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="did not confirm"):
        await publisher.publish(SCHEDULE_TICK, envelope(), b"{}")


async def test_whoever_is_cancelled_stays_so() -> None:
    class Silent(Channel):
        async def get_exchange(self, *_: Any, **__: Any) -> Any:
            await asyncio.sleep(60)

    publishing = asyncio.create_task(InboundPublisher(Silent()).publish(SCHEDULE_TICK, envelope(), b"{}"))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing


async def test_a_broker_that_opens_no_channel_is_away(rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: Any, **__: Any) -> None:
        raise RuntimeError("Connection closed")

    monkeypatch.setattr(aio_pika.Connection, "channel", gone)
    with pytest.raises(Unavailable, match="does not open a channel"):
        async with InboundPublisher.connected(rabbitmq_url):
            pass
