"""The connection that publishes: windows of messages in, one outcome for each out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import count
from typing import Any, Final

from aiormq.connection import Connection, TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import (
    AMQPError,
    ChannelClosed,
    ChannelNotFoundEntity,
    ConnectionFrameError,
    ConnectionNotImplemented,
    ConnectionSyntaxError,
    ConnectionUnexpectedFrame,
)
from yarl import URL

from service.clients.amqp_connection import own_cancellation
from service.clients.amqp_frames import Publishable, UnfitMessage, publish_frames
from service.clients.confirm_channel import UNKNOWN, ConfirmChannel, Frames, Outcome, Refused
from service.domain.errors import Unavailable

__all__ = ["Publisher"]

# What the broker closes a connection with when it cannot read what it was sent.
_BLAMES_THE_MESSAGE: Final = (
    ConnectionFrameError,
    ConnectionSyntaxError,
    ConnectionUnexpectedFrame,
    ConnectionNotImplemented,
)
_HEARTBEAT_SECONDS: Final = 10
_FRAME_MAX: Final = 131_072
_MANY: Final = "many"
# Where messages go one by one after the channel of many was closed over one of them.
_ALONE: Final = "alone"


class _Transport(TransportFactory):
    """Keeps hold of the socket: the library closes a stalled one only after minutes."""

    def __init__(self, url: URL) -> None:
        self._factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, self._writer = await self._factory.create(url, **kwargs)
        return reader, self._writer

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


class Publisher:
    """One connection, one channel for each exchange: an exchange that is missing closes its own channel and no other."""

    def __init__(self, url: str, *, name: str, within: timedelta = timedelta(seconds=10)) -> None:
        self._url = URL(url)
        if "heartbeat" not in self._url.query:
            self._url = self._url.update_query(heartbeat=_HEARTBEAT_SECONDS)
        self._name = name
        self._within = within.total_seconds()
        self._connection: Connection | None = None
        self._transport = _Transport(self._url)
        self._channels: dict[tuple[str, str], ConfirmChannel] = {}
        self._alone = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._open = asyncio.Event()
        self._lost = asyncio.Event()
        self._lost.set()
        self.blocked = False

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._open.is_set()

    async def opened(self) -> None:
        """Wait until there is a connection."""
        await self._open.wait()

    async def lost(self) -> None:
        """Wait until there is no connection."""
        await self._lost.wait()

    async def connect(self) -> None:
        """Open the connection; raises Unavailable."""
        await self.close()
        transport = _Transport(self._url)
        connection = Connection(self._url, transport_factory=transport, client_properties={"connection_name": self._name})
        try:
            async with asyncio.timeout(self._within):
                with own_cancellation():
                    await connection.connect()
        except (AMQPError, OSError, EOFError, TimeoutError) as error:
            transport.abort()
            message = f"the broker does not answer ({type(error).__name__})"
            raise Unavailable(message) from None
        self._connection, self._transport, self._channels = connection, transport, {}
        self._lost.clear()
        self._open.set()
        connection.closing.add_done_callback(lambda _: self._forget(connection))

    async def publish_window(self, messages: Sequence[Publishable]) -> list[Outcome]:
        """Publish all, wait for the broker's word on each; at most `within`, whatever the broker or the network does."""
        outcomes: list[Outcome] = [UNKNOWN] * len(messages)
        by_exchange: dict[str, list[int]] = {}
        for index, message in enumerate(messages):
            by_exchange.setdefault(message.exchange, []).append(index)
        deadline = asyncio.get_running_loop().time() + self._within
        groups = [self._publish_group(messages, indexes, outcomes, deadline) for indexes in by_exchange.values()]
        if len(groups) == 1:
            await groups[0]
        else:
            await asyncio.gather(*groups)
        return outcomes

    async def close(self) -> None:
        """Close the connection, within two seconds."""
        connection, transport = self._connection, self._transport
        if connection is None:
            return
        self._forget(connection)
        # What could not be said to the broker in time is said by the closed socket.
        with suppress(AMQPError, OSError, TimeoutError):
            async with asyncio.timeout(2):
                with own_cancellation():
                    await connection.close()
        transport.abort()

    async def _publish_group(
        self, messages: Sequence[Publishable], indexes: list[int], outcomes: list[Outcome], deadline: float
    ) -> None:
        """Publish the messages of one exchange and put down their outcomes."""
        closed = await self._publish_on(_MANY, messages, indexes, outcomes, deadline)
        if not isinstance(closed, ChannelClosed):
            return
        unknown = [index for index in indexes if outcomes[index] is UNKNOWN]
        if isinstance(closed, ChannelNotFoundEntity):
            # The channel publishes to this exchange alone.
            _refuse(unknown, outcomes, closed)
            return
        # One of the messages in flight is the reason, and the broker does not say which.
        async with self._alone:
            for index in unknown:
                if asyncio.get_running_loop().time() >= deadline:
                    break
                closed = await self._publish_on(_ALONE, messages, [index], outcomes, deadline)
                if isinstance(closed, ChannelClosed):
                    _refuse([index], outcomes, closed)

    async def _publish_on(
        self, use: str, messages: Sequence[Publishable], indexes: list[int], outcomes: list[Outcome], deadline: float
    ) -> BaseException | None:
        """Write, wait, put down what is known; answers with what the broker closed the channel or the connection for."""
        try:
            async with asyncio.timeout_at(deadline):
                with own_cancellation():
                    channel = await self._channel(use, messages[indexes[0]].exchange)
        except (AMQPError, OSError, RuntimeError):
            return None
        except TimeoutError:
            self._abort_unless_blocked()
            return None
        fit: list[int] = []
        frames: list[Frames] = []
        frame_max = channel.connection.connection_tune.frame_max or _FRAME_MAX
        for index in indexes:
            message = messages[index]
            try:
                payload = publish_frames(message, channel.number, frame_max)
            except UnfitMessage as unfit:
                outcomes[index] = Refused(f"unfit: {unfit}")
            else:
                fit.append(index)
                frames.append(Frames(message.routing_key, message.message_id, payload))
        if not fit:
            return None
        try:
            async with asyncio.timeout_at(deadline):
                window = await channel.publish(frames)
        except (AMQPError, OSError, RuntimeError):
            return None
        except TimeoutError:
            self._abort_unless_blocked()
            return None
        # Not awaited itself: the library may fail it with CancelledError, which would look like our own cancellation.
        await asyncio.wait({window.done}, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
        for index, outcome in zip(fit, window.outcomes, strict=True):
            outcomes[index] = outcome
        if not window.done.done():
            await self._note_blocking()
            self._abort_unless_blocked()
            return None
        closed = window.done.exception()
        if isinstance(closed, _BLAMES_THE_MESSAGE) and len(fit) == 1:
            _refuse(fit, outcomes, closed)
        return closed

    async def _channel(self, use: str, exchange: str) -> ConfirmChannel:
        """The open channel for an exchange; waits while the broker blocks the connection."""
        connection = self._connection
        if connection is None:
            message = "there is no connection"
            raise ConnectionError(message)
        await self._note_blocking()
        await connection.ready()
        self.blocked = False
        channel = self._channels.get((use, exchange))
        if channel is not None and not channel.is_closed and not channel.closed_by_broker:
            return channel
        async with self._opening:
            channel = self._channels.get((use, exchange))
            if channel is None or channel.is_closed or channel.closed_by_broker:
                number = next(number for number in count(1) if number not in connection.channels)
                channel = ConfirmChannel(connection, number)
                connection.channels[number] = channel
                await channel.open(timeout=self._within)
                self._channels[use, exchange] = channel
        return channel

    async def _note_blocking(self) -> None:
        connection = self._connection
        if connection is None:
            return
        ready = asyncio.ensure_future(connection.ready())
        await asyncio.wait({ready}, timeout=0.01)
        self.blocked = not ready.done()
        ready.cancel()

    def _abort_unless_blocked(self) -> None:
        """Give up a connection that does not answer; one that the broker blocks stays: it would keep each."""
        if not self.blocked and self._connection is not None:
            self._forget(self._connection)
            self._transport.abort()

    def _forget(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection, self._channels, self.blocked = None, {}, False
            self._open.clear()
            self._lost.set()


def _refuse(indexes: Sequence[int], outcomes: list[Outcome], closed: BaseException) -> None:
    for index in indexes:
        outcomes[index] = Refused(f"refused: {closed.args[-1] if closed.args else type(closed).__name__}")
