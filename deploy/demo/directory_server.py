"""The directory of the demo: the Django REST framework server of the tests, as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any, Final

from service.domain.errors import RollcallError

__all__ = ["DirectoryServer", "can_run", "running_directory"]

_ROOT: Final = Path(__file__).resolve().parents[2]
_SECONDS: Final = 30.0
_ENDED: Final = "the directory of the demo ended; `python -m tests.upstream.server` shows why"


class DirectoryFailed(RollcallError):
    """The demo's directory does not do what it is told; the text says what."""


def can_run() -> bool:
    """Whether the server is here: it lives in a checkout, with Django, and not in an installed package."""
    return (_ROOT / "tests" / "upstream" / "server.py").is_file() and find_spec("rest_framework") is not None


class DirectoryServer:
    """Told what its members are; each call returns when it is so. Raises DirectoryFailed."""

    def __init__(self, process: Popen[bytes]) -> None:
        self._process = process
        self._port = 0

    async def begin(self, members: int, key: str) -> None:
        """Serve so many members, numbered from 1, to whoever has the key, in place of whom it served before."""
        if not self._port:
            self._port = await self._answer()
        await self._do("reset", members=members, key=key, auth="Bearer")

    @property
    def url(self) -> str:
        """Below it lies one API for each paging."""
        return f"http://127.0.0.1:{self._port}"

    async def change(
        self, *, leave: Collection[int] = (), join: Collection[int] = (), edit: Mapping[int, Mapping[str, str]] | None = None
    ) -> None:
        """Members leave, join and are edited."""
        await self._do("change", delete=list(leave), insert=list(join), update=dict(edit or {}))

    async def _do(self, what: str, **options: Any) -> None:
        if self._process.stdin is None:
            raise DirectoryFailed("the directory has no input")
        try:
            self._process.stdin.write(json.dumps({"do": what, **options}).encode() + b"\n")
        except OSError:
            raise DirectoryFailed(_ENDED) from None
        await self._answer()

    async def _answer(self) -> Any:
        if self._process.stdout is None:
            raise DirectoryFailed("the directory has no output")
        try:
            async with asyncio.timeout(_SECONDS):
                line = await asyncio.to_thread(self._process.stdout.readline)
        except BaseException as error:
            # Else the thread would go on reading, and the event loop waits for its threads before it ends.
            self._process.terminate()
            if isinstance(error, TimeoutError):
                raise DirectoryFailed("the directory of the demo does not answer") from None
            raise
        if not line:
            raise DirectoryFailed(_ENDED)
        return json.loads(line)


@contextmanager
def running_directory() -> Iterator[DirectoryServer]:
    """The server, not serving yet: `begin` waits for it, so that it starts beside what else is done."""
    with Popen(
        [sys.executable, "-m", "tests.upstream.server"],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        # What could not be written must not fail once more as it is closed.
        bufsize=0,
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        # Ctrl-C is for the demo, which ends it.
        start_new_session=True,
    ) as process:
        try:
            yield DirectoryServer(process)
        finally:
            process.terminate()
