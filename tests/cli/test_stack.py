"""`rollcall dev` as a process: it prints where it is, stays up, and ends with all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from deploy.local_stack.reaper import birth, family

PROJECT = Path(__file__).resolve().parents[2]
UP_WITHIN, GONE_WITHIN = 60.0, 20.0
# What a developer's own shell, or the run of these tests, may have set.
OURS = ("DATABASE_", "RABBITMQ_", "PORT", "SECRETS_DIR", "ADMIN_API_KEY", "ROLLCALL_", "OTEL_")


@dataclass
class Dev:
    """A running `rollcall dev`."""

    process: asyncio.subprocess.Process
    # All that it and its servers put down.
    home: Path

    async def exports(self) -> dict[str, str]:
        assert self.process.stdout is not None
        lines = [(await self.process.stdout.readline()).decode() for _ in range(5)]
        pairs = [line.removeprefix("export ").rstrip("\n").split("=", 1) for line in lines if line.startswith("export ")]
        assert len(pairs) == 5, (lines, (self.home.parent / "stderr").read_text())
        return dict(pairs)

    async def interrupt(self) -> None:
        """As Ctrl-C does; waits until nothing of it is left."""
        members = family(self.process.pid)
        self.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(self.process.wait(), GONE_WITHIN) == 0
        assert len(members) > 3, "no servers were seen"

        async def gone() -> bool:
            return not any(birth(pid) == born for pid, born in members.items()) and not list(self.home.iterdir())

        await until(gone, GONE_WITHIN)


async def until(holds: Callable[[], Awaitable[bool]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.fixture
def homes() -> Iterator[list[Path]]:
    # Below /tmp itself: the paths of sockets must be short.
    with ExitStack() as held:
        yield [Path(held.enter_context(tempfile.TemporaryDirectory(prefix="dev-", dir="/tmp"))) for _ in range(2)]


@asynccontextmanager
async def dev(place: Path) -> AsyncIterator[Dev]:
    home = place / "tmp"
    home.mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    with (place / "stderr").open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "dev"),
            cwd=PROJECT,
            env={**inherited, "TMPDIR": str(home), "ROLLCALL_STACK_HIDE": "docker"},
            stdout=asyncio.subprocess.PIPE,
            stderr=said,
        )
    try:
        yield Dev(process, home)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_two_stay_up_side_by_side_and_each_ends_alone_with_its_servers(homes: list[Path]) -> None:
    async with AsyncExitStack() as held, httpx.AsyncClient(trust_env=False, timeout=10) as client:
        first, second = [await held.enter_async_context(dev(home)) for home in homes]
        told = await asyncio.wait_for(asyncio.gather(first.exports(), second.exports()), UP_WITHIN)
        for exports in told:
            assert set(exports) == {"DATABASE_URL", "RABBITMQ_URL", "PORT", "SECRETS_DIR", "ADMIN_API_KEY"}
        assert not set(told[0].values()) & set(told[1].values())
        ports = {port for exports in told for port in (*map(server_port, exports.values()), int(exports["PORT"])) if port}
        assert len(ports) == 6

        async def ready(exports: dict[str, str]) -> bool:
            return (await client.get(f"http://127.0.0.1:{exports['PORT']}/ready")).status_code == 200

        await asyncio.gather(*(until(partial(ready, exports), UP_WITHIN) for exports in told))
        known = {"Authorization": f"Bearer {told[0]['ADMIN_API_KEY']}"}
        statuses = [
            (await client.get(f"http://127.0.0.1:{exports['PORT']}/api/schedules", headers=known)).status_code for exports in told
        ]
        assert statuses[0] != 401
        assert statuses[1] == 401

        await first.interrupt()

        with pytest.raises(httpx.ConnectError):
            await ready(told[0])
        assert second.process.returncode is None
        assert await ready(told[1])
        await second.interrupt()


def server_port(value: str) -> int | None:
    return urlsplit(value).port if "://" in value else None
