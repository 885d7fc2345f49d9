"""A worker whose handlers never end: `python -m tests.chaos.wedged_worker`, otherwise as `rollcall run worker`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import uvloop

from service.domain.change import Change
from service.domain.outcome import Result
from service.settings import load_settings
from service.telemetry.logs import configure_logs
from service.wiring.process import Process, Role, run_process
from service.wiring.worker import Worker


class WedgedWorker(Worker):
    """Begins to apply changes, and waits for something that does not come."""

    async def _apply(self, changes: Sequence[Change]) -> list[Result]:
        await asyncio.Event().wait()
        return await super()._apply(changes)


def main() -> None:
    settings = load_settings()

    def wedge(process: Process) -> None:
        process._worker = WedgedWorker(settings)

    uvloop.run(run_process(settings, [Role.WORKER], on_start=wedge))


if __name__ == "__main__":
    configure_logs("json", "info")
    main()
