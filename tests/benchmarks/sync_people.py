"""Who the directory of the sync benchmark holds, made up: in the process, or by a server in a process of its own.

`python -m tests.benchmarks.sync_people` is that server: it says its port on stdout, and ends when stdin does.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
import uvicorn

from service.clients.directories.opening import Outside, open_source
from service.clients.directories.source import Health, Page, Record, Source
from service.domain.directories.configuration import directory
from tests.directory_rig import LOOPBACK, ROOT

__all__ = ["CHANGED", "INITIAL", "NO_CHANGE", "PAGE", "REMOVED", "STEPS", "MadeUp", "over_http", "paged", "population", "serving"]

PAGE: Final = 1000
INITIAL, NO_CHANGE, CHANGED, REMOVED = "initial", "no change", "1% changed", "10% removed"
STEPS: Final = (INITIAL, NO_CHANGE, CHANGED, REMOVED)
_PATH: Final = re.compile(r"/(\d)/(\d+)")


def person(number: int, *, changed: bool) -> Record:
    return {
        "id": number,
        "kennitala": f"{number:010}",
        "name": f"Member {number}{' changed' if changed else ''}",
        "email": f"member{number}@example.com",
    }


def population(size: int, step: str, begin: int = 0, end: int | None = None) -> Iterator[Record]:
    """What the directory holds in that step: from the third on a hundredth has another name, in the fourth a tenth is gone."""
    late = STEPS.index(step) >= STEPS.index(CHANGED)
    for number in range(begin, size if end is None else min(size, end)):
        if not (step == REMOVED and number % 10 == 3):
            yield person(number, changed=late and number % 100 == 7)


def paged(records: Iterator[Record]) -> Iterator[list[Record]]:
    while page := list(islice(records, PAGE)):
        yield page


@dataclass(frozen=True)
class MadeUp:
    """A directory of that many in that step, without a network; its pages do not shift."""

    size: int
    step: str
    supports_since: bool = False
    pages_shift: bool = False

    async def health(self) -> Health:
        return Health(reachable=True, authorised=True, shape=True)

    async def pages(self, since: datetime | None = None) -> AsyncGenerator[Page, None]:
        count = sum(1 for number in range(self.size) if number % 10 != 3) if self.step == REMOVED else self.size
        for number, records in enumerate(paged(population(self.size, self.step)), 1):
            yield Page(records, count, number)


@contextmanager
def serving() -> Iterator[str]:
    """The address of the same directory behind HTTP, as long as it is used."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.sync_people"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


@asynccontextmanager
async def over_http(address: str, size: int, step: str) -> AsyncIterator[Source]:
    """The directory as Rollcall reads any that Django REST framework serves, cut by cursors."""
    settings = {"baseUrl": address, "path": f"/{STEPS.index(step)}/{size}", "paging": "cursor", "pageSize": PAGE}
    async with open_source(directory("django", settings), None, Outside(LOOPBACK)) as source:
        yield source


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http" or (found := _PATH.fullmatch(scope["path"])) is None:
        raise ValueError(scope["type"])
    step, size = STEPS[int(found[1])], int(found[2])
    query = parse_qs(scope["query_string"].decode())
    begin, many = int(query.get("cursor", ["0"])[0]), int(query["page_size"][0])
    end = begin + many
    following = None if end >= size else f"http://127.0.0.1/{found[1]}/{size}?cursor={end}&page_size={many}"
    body = orjson.dumps({"next": following, "previous": None, "results": list(population(size, step, begin, end))})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _serve() -> None:
    server = uvicorn.Server(uvicorn.Config(_answer, port=0, lifespan="off", log_level="warning"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await running


if __name__ == "__main__":
    asyncio.run(_serve())
