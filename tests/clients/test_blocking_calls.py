"""Calls that hang keep nobody else waiting, not even the process that wants to exit."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from service.clients.blocking_calls import BlockingCalls
from service.clients.guarded_transport import resolve

WITHIN = 20.0


@pytest.fixture
def release() -> Iterator[Event]:
    release = Event()
    yield release
    release.set()


async def test_a_name_is_found_beside_many_of_which_nobody_answers(release: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *given: Any, **named: Any) -> Any:
        if host.endswith(".dead.example"):
            release.wait()
            raise OSError("nobody answers")
        return real(host, *given, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    dead = [asyncio.create_task(resolve(f"{number}.dead.example", 443)) for number in range(40)]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(WITHIN):
            assert "127.0.0.1" in await resolve("127.0.0.1", 443)
        assert not any(task.done() for task in dead)
    finally:
        release.set()
        ended = await asyncio.gather(*dead, return_exceptions=True)

    assert {type(found) for found in ended} == {OSError}


async def test_who_asks_for_the_same_shares_one_call_and_giving_up_takes_it_from_nobody(release: Event) -> None:
    calls, asked = BlockingCalls(), 0

    def call() -> str:
        nonlocal asked
        asked += 1
        release.wait()
        return "answer"

    first, second = [asyncio.create_task(calls.call("same", call)) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert not second.done()
    release.set()

    assert (first.cancelled(), await second, asked) == (True, "answer", 1)
    # And what is asked afterwards is asked anew.
    assert (await calls.call("same", call), asked) == ("answer", 2)


async def test_an_error_is_its_callers_and_where_nobody_waits_any_more_nobodys(release: Event) -> None:
    calls = BlockingCalls()

    def call() -> None:
        release.wait()
        raise LookupError("no such thing")

    given_up = asyncio.create_task(calls.call("given up", call))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    release.set()
    with pytest.raises(LookupError):
        await calls.call("another", call)


async def test_more_than_there_are_threads_take_turns(release: Event) -> None:
    calls, at_once, most = BlockingCalls(2), 0, 0

    def call() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        release.wait()
        at_once -= 1

    tasks = [asyncio.create_task(calls.call(number, call)) for number in range(6)]
    await asyncio.sleep(0)
    release.set()
    await asyncio.wait_for(asyncio.gather(*tasks), WITHIN)

    assert 1 <= most <= 2


def test_a_call_that_hangs_holds_up_no_exit() -> None:
    code = """
import asyncio, socket, threading
from service.clients.guarded_transport import resolve
socket.getaddrinfo = lambda *given, **named: threading.Event().wait()
try:
    asyncio.run(asyncio.wait_for(resolve("dead.example", 443), 0.01))
except TimeoutError:
    print("given up")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=2 * WITHIN, check=False)

    assert (ended.returncode, ended.stdout) == (0, "given up\n"), ended.stderr
