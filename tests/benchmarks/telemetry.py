"""What telemetry costs the worker: nothing of it, metrics alone, with a tenth of all messages recorded, with all of them.

Measured as in apply.py. Spans go over OTLP/HTTP, the default, to a sink in a process of its own that answers and forgets: encoding
and sending are part of what tracing costs a worker, what a collector does with them is not.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final

import uvloop

from service.cli import processes
from service.settings import Settings
from service.telemetry.metrics import UNMEASURED
from service.telemetry.tracing import NO_TRACING
from service.wiring.process import Process, Role, until_stopped
from tests.benchmarks.apply import ROOT, Contender, rate
from tests.benchmarks.rounds import Series, interleaved

__all__ = ["ALL", "NOTHING", "OFF", "TENTH", "measure"]

NOTHING, OFF, TENTH, ALL = "nothing", "off", "tenth", "all"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"


async def measure(
    rounds: int, *, database_url: str, rabbitmq_url: str, messages: int, say: Callable[[str], None] = print
) -> dict[str, Series]:
    """Messages per second of each; the database must be migrated, empty and free of connections, the vhost ours to fill."""
    async with _sink() as port:
        tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
        worker = ("service", "run", "worker")
        contenders = {
            NOTHING: Contender(("tests.benchmarks.telemetry", "worker")),
            OFF: Contender(worker),
            TENTH: Contender(worker, {**tracing, "OTEL_TRACES_SAMPLER_ARG": "0.1"}),
            ALL: Contender(worker, {**tracing, "OTEL_TRACES_SAMPLER_ARG": "1"}),
        }

        async def run(name: str) -> float:
            return await rate(contenders[name], database_url=database_url, rabbitmq_url=rabbitmq_url, messages=messages)

        return await interleaved(tuple(contenders), rounds, run, say)


@asynccontextmanager
async def _sink() -> AsyncIterator[int]:
    """A process that takes spans and forgets them; its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.telemetry", "sink", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        if process.stdout is None:
            raise RuntimeError("the sink has no output")
        async with asyncio.timeout(30):
            port = int(await process.stdout.readline())
        yield port
        if process.returncode is not None:
            raise RuntimeError("the sink ended before the measurement did")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _forget(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read requests and answer them until the client goes."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(_ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _run_sink() -> None:
    server = await asyncio.start_server(_forget, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


async def _run_without_telemetry(settings: Settings, roles: Collection[Role], on_start: Callable[[Process], None]) -> None:
    process = Process(settings, roles, metrics=UNMEASURED, tracing=NO_TRACING)
    on_start(process)
    await until_stopped(process)


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        uvloop.run(_run_sink())
    else:
        # All else as `rollcall run` does it.
        processes.run_process = _run_without_telemetry  # type: ignore[assignment]
        processes.run([Role.WORKER])
