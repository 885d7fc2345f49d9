"""The clients of the webhook benchmark: so many keep-alive connections, each with one signed webhook under way.

A process of its own, and a lean one: everything is signed and written out before the clock runs, and answers are read by httptools.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Final, Self

import httptools
import uvloop

from service.domain.webhooks.schemes import SchemeName, scheme
from service.domain.webhooks.signatures import sign

__all__ = ["CONNECTIONS", "SECRET", "Answers", "answers_of", "send_webhooks", "signed_requests", "warm_up"]

CONNECTIONS: Final = 64
PATIENCE_SECONDS: Final = 120
# Where the processes of this benchmark find the secret. They import no more than they need: a round starts seven of them.
SECRET: Final = "WEBHOOK_SECRET"


@dataclass(slots=True)
class Answers:
    """What became of the webhooks: seconds and each one's milliseconds after the warm-up; the ids and the statuses of all."""

    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def warm_up(count: int) -> int:
    """How many come before the clock runs: every connection open, every channel and cache used."""
    return min(count, 10 * CONNECTIONS)


async def send_webhooks(port: int, path: str, count: int, **environment: str) -> Answers:
    """Have a process send the warm-up and `count` more to 127.0.0.1, and say what was answered; raises RuntimeError."""
    return await answers_of(__name__, str(port), path, str(count), **environment)


async def answers_of(module: str, *arguments: str, **environment: str) -> Answers:
    """What a process of `module` answers when it has done all; raises RuntimeError."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        message = f"{module} ended with {process.returncode}"
        raise RuntimeError(message)
    return Answers.parse(output.decode())


def signed_requests(path: str, count: int) -> Iterator[tuple[str, bytes]]:
    """So many webhooks with bodies of 1 kB: what each is known by, and its whole request."""
    by = scheme(SchemeName.STANDARD_WEBHOOKS, {})
    key, now = by.key(os.environ[SECRET]), datetime.now(UTC)
    for number in range(count):
        message_id = f"msg_{number:08}"
        body = json.dumps(
            {
                "id": message_id,
                "action": "update",
                "updated_at": "2026-11-01T12:00:00Z",
                "name": f"Member {message_id}",
                "email": f"{message_id}@example.com",
                "state": "active",
                "plan": "annual",
                "metadata": {"branch": "north", "note": "x" * 780},
            }
        ).encode()
        headers = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(body))}
        headers |= dict(sign(by, key, body, message_id=message_id, now=now))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        yield message_id, f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


class _Client(asyncio.Protocol):
    """One connection; sends the next webhook as soon as the last one is answered."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._work: Iterator[tuple[str, bytes]] = iter(())
        self._answers = Answers()
        self._done: asyncio.Future[None] | None = None
        self._message_id = ""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # what a connection is given
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("the server closed a connection"))

    def work(self, work: Iterator[tuple[str, bytes]], answers: Answers) -> asyncio.Future[None]:
        """Send all that `work` still has; done with the answer to the last."""
        self._work, self._answers = work, answers
        self._done = asyncio.get_running_loop().create_future()
        self._next()
        return self._done

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._answers.milliseconds.append((time.perf_counter() - self._sent) * 1000)
        status = self._parser.get_status_code()
        if 200 <= status < 300:
            self._answers.accepted.append(self._message_id)
        else:
            self._answers.refused[self._message_id] = status
        self._next()

    def _next(self) -> None:
        if (request := next(self._work, None)) is None:
            if self._done is not None and not self._done.done():
                self._done.set_result(None)
            return
        self._message_id, payload = request
        self._sent = time.perf_counter()
        self.transport.write(payload)


async def _send(port: int, path: str, count: int) -> Answers:
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(_Client, "127.0.0.1", port))[1] for _ in range(CONNECTIONS)]
    requests = [*signed_requests(path, warm_up(count) + count)]
    gc.freeze()
    answers = Answers()
    for part in (requests[: warm_up(count)], requests[warm_up(count) :]):
        answers.milliseconds.clear()
        started = time.perf_counter()
        work = iter(part)
        await asyncio.gather(*(client.work(work, answers) for client in clients))
        answers.seconds = time.perf_counter() - started
    for client in clients:
        client.transport.close()
    return answers


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(_send(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))).to_json())
