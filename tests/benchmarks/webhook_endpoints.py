"""What Rollcall's edge is compared to: webhook endpoints as they are written by hand and with FastAPI, and confirms alone.

Both endpoints answer 202 after the broker's confirm of a persistent, mandatory message. They check the signature and its time, and
nothing else that a door should: no bounds of size or time, no limits, no secrets that change.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Annotated, Any, Final, Literal

import aio_pika
import uvicorn
import uvloop
from aio_pika.abc import AbstractExchange
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

from contracts.channels import WEBHOOK_RECEIVED, webhook_routing_key
from tests.benchmarks.webhook_load import CONNECTIONS, SECRET, Answers, signed_requests, warm_up

__all__ = ["CONFIRMS", "ENDPOINTS", "FASTAPI", "LISTENING", "RAW"]

RAW, FASTAPI, CONFIRMS = "raw", "fastapi", "confirms"
LISTENING: Final = "listening"
TOLERANCE_SECONDS: Final = 300
ACCEPTED: Final = b'{"status":"accepted"}'
REFUSED: Final = b'{"status":"refused"}'


@asynccontextmanager
async def _exchange(rabbitmq_url: str) -> AsyncIterator[AbstractExchange]:
    connection = await aio_pika.connect_robust(rabbitmq_url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        yield await channel.get_exchange(WEBHOOK_RECEIVED.exchange.name, ensure=False)


async def _publish(exchange: AbstractExchange, body: bytes, message_id: str) -> None:
    """Returns with the broker's confirm, raises where the message was returned or refused."""
    message = aio_pika.Message(
        body,
        content_type="application/json",
        message_id=message_id,
        type=WEBHOOK_RECEIVED.message_type,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
    await exchange.publish(message, webhook_routing_key(os.environ["CONNECTION_ID"]), mandatory=True)


@cache
def _key() -> bytes:
    return base64.b64decode(os.environ[SECRET].removeprefix("whsec_"))


def _genuine(message_id: bytes, timestamp: bytes, signature: bytes, body: bytes) -> bool:
    expected = b"v1," + base64.b64encode(hmac.new(_key(), b".".join((message_id, timestamp, body)), hashlib.sha256).digest())
    return abs(time.time() - int(timestamp)) <= TOLERANCE_SECONDS and hmac.compare_digest(expected, signature)


@asynccontextmanager
async def raw_asgi(rabbitmq_url: str) -> AsyncIterator[Any]:
    """An ASGI application without a framework."""
    async with _exchange(rabbitmq_url) as exchange:

        async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
            body, more = b"", True
            while more:
                part = await receive()
                body += part.get("body", b"")
                more = part.get("more_body", False)
            headers = dict(scope["headers"])
            message_id = headers[b"webhook-id"]
            status, answer = 401, REFUSED
            if _genuine(message_id, headers[b"webhook-timestamp"], headers[b"webhook-signature"], body):
                await _publish(exchange, body, message_id.decode())
                status, answer = 202, ACCEPTED
            await send(
                {
                    "type": "http.response.start",
                    "status": status,
                    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))],
                }
            )
            await send({"type": "http.response.body", "body": answer})

        yield app


class Member(BaseModel):
    id: str
    action: Literal["create", "update", "delete"]
    updated_at: str
    name: str
    email: str
    state: str
    plan: str
    metadata: dict[str, str]


async def _verified(request: Request) -> str:
    """The id of a genuine webhook; raises HTTPException."""
    headers = request.headers
    parts = (headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), headers["webhook-signature"].encode())
    if not _genuine(*parts, await request.body()):
        raise HTTPException(401)
    return headers["webhook-id"]


@asynccontextmanager
async def fastapi(rabbitmq_url: str) -> AsyncIterator[Any]:
    """A FastAPI application as its documentation teaches it: a model, a dependency, a dictionary as the answer."""
    async with _exchange(rabbitmq_url) as exchange:
        app = FastAPI()

        @app.post("/webhooks/{connection_id}", status_code=202)
        async def receive(connection_id: str, member: Member, message_id: Annotated[str, Depends(_verified)]) -> dict[str, str]:
            await _publish(exchange, member.model_dump_json().encode(), message_id)
            return {"status": "accepted"}

        yield app


async def confirms(rabbitmq_url: str, count: int) -> Answers:
    """The same messages from memory, no HTTP, as many under way as there are clients: what the broker's word alone takes."""
    answers = Answers()
    requests = [*signed_requests("/", warm_up(count) + count)]
    async with _exchange(rabbitmq_url) as exchange:

        async def publish(work: Iterator[tuple[str, bytes]]) -> None:
            for message_id, request in work:
                started = time.perf_counter()
                await _publish(exchange, request.partition(b"\r\n\r\n")[2], message_id)
                answers.milliseconds.append((time.perf_counter() - started) * 1000)
                answers.accepted.append(message_id)

        for part in (requests[: warm_up(count)], requests[warm_up(count) :]):
            answers.milliseconds.clear()
            started = time.perf_counter()
            work = iter(part)
            await asyncio.gather(*(publish(work) for _ in range(CONNECTIONS)))
            answers.seconds = time.perf_counter() - started
    return answers


ENDPOINTS: Final = {RAW: raw_asgi, FASTAPI: fastapi}


async def _serve(name: str) -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    async with ENDPOINTS[name](os.environ["RABBITMQ_URL"]) as app:
        config = uvicorn.Config(app, http="httptools", ws="none", log_config=None, access_log=False, lifespan="off")
        print(json.dumps({"event": LISTENING, "port": listening.getsockname()[1]}), flush=True)
        await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if sys.argv[1] == CONFIRMS:
            print(runner.run(confirms(os.environ["RABBITMQ_URL"], int(sys.argv[2]))).to_json())
        else:
            runner.run(_serve(sys.argv[1]))
