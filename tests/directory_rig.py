"""What tests of directories stand on: a genuine Django REST framework server as a process, and sources that read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import IO, Any, Final

from pydantic import SecretStr

from service.clients.directories.opening import Outside, open_source
from service.clients.directories.source import Page, Record, Source
from service.clients.outward_http import OutwardLimits
from service.domain.directories.configuration import directory

ROOT: Final = Path(__file__).resolve().parent.parent
KEY: Final = "s3cret-key"
LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
PAGINGS: Final = ("page-number", "limit-offset", "cursor")
# Patient enough for a busy machine, and no longer than a test may take.
QUICK: Final = OutwardLimits(
    connect=timedelta(seconds=10),
    read=timedelta(seconds=20),
    whole=timedelta(seconds=40),
    backoff=timedelta(milliseconds=10),
    longest_wait=timedelta(seconds=2),
)
NESTED: Final[Mapping[str, Any]] = {
    "externalId": "uid",
    "updatedAt": "updated_at",
    "states": {"true": "active", "false": "removed"},
    "member": {
        "nationalId": "ssn",
        "name": "name",
        "email": "contact_info.email",
        "phone": "contact_info.phone",
        "state": "is_active",
    },
}


@dataclass
class Upstream:
    """The server; every method returns when what it asked for is done."""

    port: int
    stdin: IO[str]
    stdout: IO[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self, members: int = 0, *, key: str = KEY, auth: str = "Bearer") -> None:
        """So many members, numbered from 1, no faults, nothing asked yet."""
        self._do("reset", members=members, key=key, auth=auth)

    def fault(self, kind: str, *, page: int = 1, times: int = 1_000_000, **options: Any) -> None:
        """Let something go wrong with a page, 0 being every page: see tests/upstream/faults.py."""
        self._do("fault", kind=kind, page=page, times=times, options=options)

    def heal(self) -> None:
        """No faults any more."""
        self._do("heal")

    def change(self, *, delete: Any = (), insert: Any = (), update: Mapping[int, Mapping[str, Any]] | None = None) -> None:
        """Members come, go and change, now."""
        self._do("change", delete=list(delete), insert=list(insert), update=dict(update or {}))

    def change_after_page(self, page: int, *, delete: Any = (), insert: Any = ()) -> None:
        """Members come and go when that page was made and the next was not."""
        self.fault("change", page=page, times=1, delete=list(delete), insert=list(insert))

    def dress(self, records: Mapping[int, Mapping[str, Any]]) -> None:
        """Other or more fields in the flat records of these members."""
        self._do("dress", records=dict(records))

    def key(self, key: str) -> None:
        """Accept another key only."""
        self._do("key", key=key)

    def requests(self) -> list[dict[str, Any]]:
        """What was asked for since the last reset: path, authorization, at (monotonic seconds)."""
        asked: list[dict[str, Any]] = self._do("requests")
        return asked

    def _do(self, what: str, **options: Any) -> Any:
        self.stdin.write(json.dumps({"do": what, **options}) + "\n")
        self.stdin.flush()
        return json.loads(self.stdout.readline())


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    """The server as a process of its own, ended with its caller."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.upstream.server"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin, process.stdout:
        try:
            yield Upstream(json.loads(process.stdout.readline()), process.stdin, process.stdout)
        finally:
            process.terminate()


@asynccontextmanager
async def django_source(
    upstream: Upstream,
    paging: str = "page-number",
    *,
    key: str | None = KEY,
    path: str = "/api/members/",
    limits: OutwardLimits = QUICK,
    **settings: Any,
) -> AsyncIterator[Source]:
    """A source that reads the server."""
    described = directory("django", {"baseUrl": f"{upstream.url}/{paging}", "path": path, **paged(paging), **settings})
    async with open_source(described, None if key is None else SecretStr(key), Outside(LOOPBACK, limits=limits)) as source:
        yield source


def paged(paging: str) -> dict[str, str]:
    return {"paging": paging if paging in PAGINGS else "none"}


async def read_all(source: Source, since: datetime | None = None) -> list[Page]:
    """Every page."""
    async with aclosing(source.pages(since)) as pages:
        return [page async for page in pages]


def records(pages: list[Page]) -> list[Record]:
    return [record for page in pages for record in page.records]
