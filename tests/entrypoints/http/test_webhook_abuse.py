"""Clients that mean harm or are broken: the right status, never a 5xx, never a message, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.entrypoints.http import connections
from tests.relay_rig import eventually
from tests.webhook_rig import Door, Sender, open_door, payload

MIB = 1024 * 1024


@pytest.fixture
async def sender(database_url: str) -> Sender:
    return await Sender.register(database_url)


@pytest.fixture
async def door(database_url: str, rabbitmq_url: str, tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(database_url, rabbitmq_url, tmp_path, forged_webhooks_per_second=100_000) as opened:
        yield opened


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's bounds in tenths."""
    monkeypatch.setattr(connections, "_HEAD_SECONDS", 1.0)
    monkeypatch.setattr(connections, "_MESSAGE_SECONDS", 2.0)


async def raw(door: Door, *parts: bytes, pause: float = 0.0, within: float = 20) -> bytes:
    """Send the parts and answer all that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        async with asyncio.timeout(within):
            reading = asyncio.create_task(reader.read())
            for part in parts:
                if reading.done():
                    break
                writer.write(part)
                await asyncio.sleep(pause)
            return await reading
    except ConnectionError:
        return b""
    finally:
        writer.close()


def head(sender: Sender, *lines: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {sender.path} HTTP/1.1", "host: localhost", *lines, "", ""]).encode("latin-1")


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def is_well(door: Door, sender: Sender) -> None:
    # Served at once, not after the others: far below the deadline that those are waiting for.
    async with asyncio.timeout(10):
        assert (await door.post(sender, payload())).status_code == 202


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("whole", [b"", b"P", b"POST /webhooks/", b"POST / HTTP/1.1\r\nhost: x\r\nx-a: "])
async def test_a_head_that_does_not_arrive_ends_the_connection(door: Door, sender: Sender, whole: bytes) -> None:
    answer, _ = await asyncio.gather(raw(door, whole, within=5), is_well(door, sender))
    assert answer == b"" if not whole else status(answer) == 408
    await door.messages(1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("part", [b"P", b"POST / HTTP/1.1\r\nhost: x\r\n"])
async def test_a_request_that_stops_after_one_that_was_answered_ends_the_connection(door: Door, part: bytes) -> None:
    whole = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    answers = (await raw(door, whole + whole, part, pause=0.2, within=10)).split(b"HTTP/1.1 ")
    assert [int(answer[:3]) for answer in answers[1:]] == [200, 200, 408]


@pytest.mark.usefixtures("impatient")
async def test_a_head_that_drips_ends_the_connection(door: Door, sender: Sender) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    reading = asyncio.create_task(reader.read())
    # Without an end: were the limit to begin anew with each byte, the answer would never come.
    drops = cycle(b"x-a: b\r\n")
    try:
        async with asyncio.timeout(60):
            writer.write(b"POST / HTTP/1.1\r\n")
            while not reading.done():
                writer.write(bytes([next(drops)]))
                await asyncio.wait({reading}, timeout=0.1)
            assert status(await reading) == 408
    finally:
        reading.cancel()
        writer.close()
    await is_well(door, sender)


async def test_a_body_that_drips_is_answered_408_and_others_are_served_meanwhile(
    door: Door, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.edge.door._bodies, "seconds", 1.0)
    start = head(sender, "content-type: application/json", "content-length: 1000")
    dripping = [asyncio.create_task(raw(door, start, *[b"x"] * 40, pause=0.1)) for _ in range(50)]
    stalled = [asyncio.create_task(raw(door, start, b"{")) for _ in range(50)]
    for _ in range(5):
        await is_well(door, sender)
    answers = await asyncio.gather(*stalled)
    assert {status(answer) for answer in answers} == {408}
    # Who still sends when the door closes may lose the answer to the reset that its own bytes cause.
    answered = [answer for answer in await asyncio.gather(*dripping) if answer]
    assert {status(answer) for answer in answered} == {408}
    assert all(b"application/problem+json" in answer for answer in answers)
    await door.messages(5)


@pytest.mark.usefixtures("impatient")
async def test_a_client_that_goes_away_in_its_body_leaves_nothing_behind(door: Door, sender: Sender) -> None:
    start = head(sender, "content-type: application/json", "content-length: 1000")
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(start + b'{"id":')
        await writer.drain()
        writer.transport.abort()
    await eventually(lambda: door.edge.door._bodies.held == 0)
    await is_well(door, sender)


async def flood(door: Door, start: bytes, chunk: bytes, total: int) -> tuple[bytes, int]:
    """Send until refused or until all is sent; answers what came back and how much went out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    reading = asyncio.create_task(reader.read())
    sent = 0
    try:
        writer.write(start)
        while sent < total and not reading.done():
            writer.write(chunk)
            sent += len(chunk)
            await writer.drain()
        async with asyncio.timeout(10):
            return await reading, sent
    except ConnectionError:
        return (reading.result() if reading.done() and not reading.exception() else b""), sent
    finally:
        reading.cancel()
        writer.close()


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_gigabyte_is_refused_early_and_takes_no_memory(door: Door, sender: Sender, chunked: bool) -> None:
    block = b"x" * 65536
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if chunked:
        start, chunk = head(sender, "content-type: application/json", "transfer-encoding: chunked"), b"10000\r\n" + block + b"\r\n"
    else:
        start, chunk = head(sender, "content-type: application/json", f"content-length: {1024 * MIB}"), block
    answer, sent = await flood(door, start, chunk, 1024 * MIB)
    assert not answer or status(answer) == 413
    assert sent < 64 * MIB
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 64 * MIB
    assert door.refused() == {("413", "too_large"): 1}
    await is_well(door, sender)
    await door.messages(1)


async def test_a_client_that_listens_gets_the_answer_about_its_size(door: Door, sender: Sender) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    start = head(sender, "content-type: application/json", "transfer-encoding: chunked")
    answer, _ = await flood(door, start, chunk, 2 * MIB)
    assert status(answer) == 413
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["status"] == 413


async def test_many_large_bodies_at_once_are_bounded_together(door: Door, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door.edge.door._bodies, "budget", 4 * MIB)
    start = head(sender, "content-type: application/json", f"content-length: {MIB}")
    holding = [asyncio.create_task(raw(door, start, b"x" * (MIB - 1), within=30)) for _ in range(10)]
    # Ten of a mebibyte each do not fit into four: six are sent away, and the others are held.
    await eventually(lambda: door.refused().get(("503", "busy"), 0) >= 6)
    assert door.edge.door._bodies.held <= 4 * MIB
    for task in holding:
        task.cancel()
    await asyncio.gather(*holding, return_exceptions=True)
    await eventually(lambda: door.edge.door._bodies.held == 0)
    await is_well(door, sender)


async def test_a_head_without_end_is_cut_off(door: Door, sender: Sender) -> None:
    for endless in (b"GET / HTTP/1.1\r\nx-a: ", b"GET /", b"GET / HTTP/1.1\r\n"):
        filler = b"x-b: c\r\n" * 1000 if endless.endswith(b"1.1\r\n") else b"a" * 8000
        answer, sent = await flood(door, endless, filler, 256 * MIB)
        assert not answer or status(answer) == 431
        # What went out lies in the buffers of the sockets.
        assert sent < 32 * MIB
    await is_well(door, sender)


SIGNING = ["webhook-id", "webhook-timestamp", "webhook-signature", "traceparent", "tracestate"]
FRAMING = ["content-type", "content-encoding", "content-length", "transfer-encoding", "expect", "host", "connection"]
NAMES = st.sampled_from([*SIGNING, *FRAMING, "x-forwarded-for", "cookie"])
TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=60)
LINES = st.one_of(
    st.builds("{}: {}".format, NAMES, TEXT),
    st.text(st.characters(min_codepoint=0, max_codepoint=255, exclude_characters="\r\n"), max_size=40),
    st.sampled_from(
        [
            "content-length: -1",
            "content-length: 99999999999999999999",
            "content-length: 2",
            "transfer-encoding: gzip, chunked",
            "webhook-timestamp: 1795262400",
            "webhook-signature: v1,",
            "x-forwarded-for: ::ffff:1, , 1.2.3.4.5",
            "upgrade: websocket",
        ]
    ),
)


@pytest.mark.usefixtures("impatient")
async def test_no_header_makes_a_server_error_or_a_message(door: Door, sender: Sender) -> None:
    found: list[tuple[list[str], bytes]] = []

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(LINES, max_size=8), st.sampled_from(["POST", "GET", "POST", "BREW"]))
    def collect(lines: list[str], method: str) -> None:
        found.append((lines, head(sender, *lines, method=method)))

    await asyncio.to_thread(collect)

    async def send(lines: list[str], request: bytes) -> None:
        # What follows ends the connection whatever the headers made of it.
        answer = await raw(door, request + b'{"id":1}' + b"\r\n\r\nQUIT\r\n\r\n", within=10)
        assert not answer or 400 <= status(answer) < 500, (lines, answer)

    for start in range(0, len(found), 30):
        await asyncio.gather(*(send(*one) for one in found[start : start + 30]))
    await is_well(door, sender)
    await door.messages(1)


async def test_a_websocket_is_no_way_in(door: Door, sender: Sender) -> None:
    request = head(sender, "upgrade: websocket", "connection: upgrade", "sec-websocket-key: x", method="GET")
    assert status(await raw(door, request, b"\r\n\r\nQUIT\r\n\r\n")) in (400, 405)
