"""A subscriber's web server: keeps what it is sent, and answers as a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks.webhooks import Webhook
from svix.webhooks import Webhook as SvixWebhook

__all__ = ["Answer", "Receiver", "Sent", "receiving"]


@dataclass(frozen=True, slots=True)
class Sent:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def version(self) -> int:
        return int(self.event["data"]["version"])

    @property
    def member(self) -> str:
        return str(self.event["data"]["memberId"])

    def verify(self, secret: str) -> None:
        """Raise where one of the official libraries does not believe it."""
        Webhook(secret).verify(self.body, self.headers)
        SvixWebhook(secret).verify(self.body, self.headers)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer after `after` seconds; `raw` instead of HTTP, and with `hang` the body never ends."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    after: float = 0.0
    raw: bytes | None = None
    hang: bool = False


class Receiver:
    """Answers 204, or what `answer` says for a request."""

    def __init__(self, answer: Callable[[Sent], Answer] | None = None) -> None:
        self.answer = answer or (lambda _: Answer())
        self.sent: list[Sent] = []
        self.port = 0
        self.open_now = 0
        self.most_at_once = 0
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    @property
    def ids(self) -> list[str]:
        return [sent.id for sent in self.sent]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                sent = await _request(reader)
                self.sent.append(sent)
                self.open_now += 1
                self.most_at_once = max(self.most_at_once, self.open_now)
                try:
                    answer = self.answer(sent)
                    await asyncio.sleep(answer.after)
                finally:
                    self.open_now -= 1
                if answer.raw is not None:
                    writer.write(answer.raw)
                    await writer.drain()
                    return
                head = {"content-length": str(len(answer.body) + (1 if answer.hang else 0)), **answer.headers}
                lines = [f"HTTP/1.1 {answer.status} Status", *(f"{name}: {value}" for name, value in head.items()), "", ""]
                writer.write("\r\n".join(lines).encode() + answer.body)
                await writer.drain()
                if answer.hang:
                    await asyncio.sleep(3600)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> Sent:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    assert method == "POST", head[0]
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Sent(path, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


async def _turns() -> None:
    """Let the loop begin with whom it let in just now, and be done with whom it closed: it may end right after."""
    for _ in range(3):
        await asyncio.sleep(0)


@asynccontextmanager
async def receiving(answer: Callable[[Sent], Answer] | None = None, **options: Any) -> AsyncIterator[Receiver]:
    """A receiver on a port of its own."""
    receiver = Receiver(answer)
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await receiver.serve(reader, writer)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, **options)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        await _turns()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _turns()
