"""Another instance of the service: a worker in a process of its own, as `rollcall run worker` starts one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, Final

from service.domain.addresses import LOOPBACK
from service.domain.errors import RollcallError
from service.settings import Settings

__all__ = ["SecondInstance", "running_instance"]

_ROOT: Final = Path(__file__).resolve().parents[2]
_READY: Final = "worker takes messages"
_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.05
# What somebody's shell asks of a service of theirs is not meant for this one.
_NOT_MEANT: Final = ("DATABASE_LISTEN_URL", "DJANGO_BASE_URL", "GRACE_DAYS")


class InstanceFailed(RollcallError):
    """The second instance does not run as it should; the text says what became of it."""


class SecondInstance:
    """What it logs tells what it did."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def ready(self) -> None:
        """Return when it takes messages; raises InstanceFailed."""
        try:
            async with asyncio.timeout(_SECONDS):
                while not any(line.get("event") == _READY for line in self._lines()):
                    if self._process.returncode is not None:
                        message = f"the second instance ended with status {self._process.returncode}"
                        raise InstanceFailed(message)
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            message = f"the second instance takes no messages after {_SECONDS:.0f} s"
            raise InstanceFailed(message) from None

    def did(self, event: str, jobs: Collection[object]) -> int:
        """How many of the jobs it was that said so."""
        wanted = {str(job) for job in jobs}
        return len({line["job"] for line in self._lines() if line.get("event") == event and line.get("job") in wanted})

    async def stop(self) -> int:
        """SIGTERM; answers the exit status, 0 where everything in flight was finished. Raises InstanceFailed."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._process.wait()
        except TimeoutError:
            message = f"the second instance does not end {_SECONDS:.0f} s after SIGTERM"
            raise InstanceFailed(message) from None

    def _lines(self) -> list[Mapping[str, Any]]:
        lines = self._log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


@asynccontextmanager
async def running_instance(settings: Settings, log: IO[str]) -> AsyncIterator[SecondInstance]:
    """A worker on the same database and broker; it starts beside what else is done, and what it logs ends up in `log`."""
    with tempfile.TemporaryDirectory(prefix="rollcall-demo-") as folder:
        path = Path(folder) / "log"
        with path.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "service",
                "run",
                "worker",
                cwd=folder,
                env=_environment(settings),
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for the demo, which ends it.
                start_new_session=True,
            )
        try:
            yield SecondInstance(process, path)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            log.write(path.read_text(encoding="utf-8"))


def _environment(settings: Settings) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_MEANT}
    paths = [str(_ROOT), *filter(None, [inherited.get("PYTHONPATH")])]
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(paths),
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "RABBITMQ_URL": settings.rabbitmq_url.get_secret_value(),
        "SECRETS_DIR": str(settings.secrets_dir or ""),
        "ALLOW_NETWORKS": ",".join(str(network) for network in LOOPBACK),
        "HOST": "127.0.0.1",
        "PORT": "0",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "info",
        "CRON_ENABLED": "true",
        "SYNC_ENABLED": "true",
        "OTEL_SDK_DISABLED": "true",
    }
