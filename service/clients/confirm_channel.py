"""A channel that publishes a window of messages in one write and sorts the broker's confirms and returns back to them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from aiormq.exceptions import ChannelInvalidStateError
from pamqp import commands as spec
from pamqp.header import ContentHeader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiormq.abc import AbstractConnection, ConfirmationFrameType

__all__ = [
    "CONFIRMED",
    "NACKED",
    "UNKNOWN",
    "ConfirmChannel",
    "Confirmed",
    "Frames",
    "Nacked",
    "Outcome",
    "Refused",
    "Returned",
    "Unknown",
    "Window",
]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The broker has taken responsibility for the message."""


@dataclass(frozen=True, slots=True)
class Returned:
    """No queue is bound for the message."""

    error: str


@dataclass(frozen=True, slots=True)
class Nacked:
    """A queue did not take the message."""

    error: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The message itself cannot be published: no such exchange, no permission, too large."""

    error: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say whether the message has landed: the connection was lost, or no confirm came in time."""


Outcome: TypeAlias = Confirmed | Returned | Nacked | Refused | Unknown

CONFIRMED: Final = Confirmed()
NACKED: Final = Nacked("rejected by a queue")
UNKNOWN: Final = Unknown()


@dataclass(frozen=True, slots=True)
class Frames:
    """A message ready to be written, and what a return names it by."""

    routing_key: str
    message_id: str
    payload: bytes


class Window:
    """Messages published together: their outcomes so far, and a future that is done when the last is known."""

    __slots__ = ("done", "outcomes", "waiting")

    def __init__(self, size: int, done: asyncio.Future[None]) -> None:
        self.outcomes: list[Outcome] = [UNKNOWN] * size
        self.waiting = size
        self.done = done


class ConfirmChannel(Channel):
    """The client library's channel with its own bookkeeping of confirms: one future a window, not one a message.

    The two overridden hooks are the library's; were they ever renamed, no window would be confirmed and no row deleted.
    """

    def __init__(self, connector: AbstractConnection, number: int) -> None:
        super().__init__(connector, number, publisher_confirms=True)
        self.closed_by_broker = False
        # By delivery tag, which only grows: the first entries are the oldest.
        self._unconfirmed: dict[int, tuple[Window, int, tuple[str, str]]] = {}
        self._returnable: dict[tuple[str, str], list[int]] = {}

    async def publish(self, messages: Sequence[Frames]) -> Window:
        """Write all of it at once; raises what the library raises when the channel is closed."""
        payload = b"".join([message.payload for message in messages])
        async with self.lock:
            if self.closed_by_broker:
                msg = f"channel {self.number} is closed"
                raise ChannelInvalidStateError(msg)
            # Nothing is awaited between handing the frames over and counting their tags: a cancelled call has done both or neither.
            await self.write_queue.put(ChannelFrame(payload=payload, should_close=False))
            window = Window(len(messages), self.create_future())
            for index, message in enumerate(messages):
                self.delivery_tag += 1
                name = (message.routing_key, message.message_id)
                self._unconfirmed[self.delivery_tag] = (window, index, name)
                self._returnable.setdefault(name, []).append(self.delivery_tag)
        return window

    async def _on_close_frame(self, frame: spec.Channel.Close) -> None:
        # The library counts the channel as open for a few steps more, and frames sent on a closed one end the whole connection.
        self.closed_by_broker = True
        await super()._on_close_frame(frame)

    async def _on_return_frame(self, frame: spec.Basic.Return) -> None:
        header = await self._get_frame()
        if not isinstance(header, ContentHeader):
            msg = f"a return is followed by {type(header).__name__}"
            raise TypeError(msg)
        await self._read_content(frame, header)
        # Two unconfirmed messages of one name both count as returned, and all of them where none has that name: to send one twice
        # is allowed, to lose one is not.
        tags = self._returnable.get((frame.routing_key or "", header.properties.message_id or ""))
        for tag in tags if tags is not None else self._unconfirmed:
            window, index, _ = self._unconfirmed[tag]
            window.outcomes[index] = Returned(f"unroutable: {frame.reply_text}")

    async def _on_confirm_frame(self, frame: ConfirmationFrameType) -> None:
        last = frame.delivery_tag or 0
        if getattr(frame, "multiple", False):
            tags = []
            for tag in self._unconfirmed:
                if tag > last:
                    break
                tags.append(tag)
        else:
            tags = [last] if last in self._unconfirmed else []
        outcome = CONFIRMED if isinstance(frame, spec.Basic.Ack) else NACKED
        for tag in tags:
            self._settle(tag, outcome)

    def _settle(self, tag: int, outcome: Outcome) -> None:
        window, index, name = self._unconfirmed.pop(tag)
        same_name = self._returnable[name]
        same_name.remove(tag)
        if not same_name:
            del self._returnable[name]
        # A returned message is acknowledged too: the broker has done with it.
        if window.outcomes[index] is UNKNOWN:
            window.outcomes[index] = outcome
        window.waiting -= 1
        if window.waiting == 0 and not window.done.done():
            window.done.set_result(None)
