"""A worker that is really killed by the changes of some members: `python -m tests.fatal_worker EXTERNAL_ID …`, set up as usual."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from service.domain.change import Change, UpstreamRemoval, UpstreamUpsert
from service.domain.outcome import Result
from service.settings import load_settings
from service.telemetry.logs import configure_logs
from service.wiring.worker import Worker


class FatalWorker(Worker):
    """Applies changes, but not those of these members."""

    async def _apply(self, changes: Sequence[Change]) -> list[Result]:
        for change in changes:
            if isinstance(change, UpstreamUpsert | UpstreamRemoval) and change.external_id in sys.argv[1:]:
                os.kill(os.getpid(), signal.SIGKILL)
        return await super()._apply(changes)


async def main() -> None:
    worker = FatalWorker(load_settings())
    await worker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    configure_logs("json", "info")
    asyncio.run(main())
