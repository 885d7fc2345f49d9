"""Members in a file behind a URL, one JSON object a line: a kind of directory of one's own, whole."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from service.clients.directories.answers import accept_status, authorization
from service.clients.directories.source import Health, Page, Record, Source
from service.clients.outside import Outside
from service.clients.outward_http import OutwardHttp
from service.domain.directories.configuration import InvalidDirectory
from service.domain.errors import SourceBroken

_PAGE = 1000
_LONGEST_LINE = 1024 * 1024


class JsonLines:
    """What the entry point names: the meaning of a connection's settings, and the source that they describe."""

    # Anybody may name a public address; the guard sees to it that it is one.
    operators_alone = False
    default_mapping: Mapping[str, Any] = {
        "externalId": "id",
        "member": {"nationalId": "kennitala", "name": "name", "email": "email"},
    }

    def place(self, settings: Mapping[str, Any]) -> str:
        """Where the file is; raises InvalidDirectory."""
        if unknown := sorted(settings.keys() - {"url"}):
            raise InvalidDirectory(f"unknown: {', '.join(unknown)}; there is url")
        url = settings.get("url")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")) or not urlsplit(url).hostname:
            raise InvalidDirectory("url is an address such as https://members.example.com/members.jsonl")
        if "@" in url or "?" in url:
            raise InvalidDirectory("url must hold no user, password or query; the key is a secret, by reference")
        return url

    @asynccontextmanager
    async def open(self, settings: Mapping[str, Any], key: SecretStr | None, outside: Outside) -> AsyncIterator[Source]:
        """The source, and its connections to the end."""
        async with outside.http(settings["url"], authorization("Bearer", key)) as http:
            yield _File(httpx.URL(settings["url"]), http, keyed=key is not None)


class _File:
    def __init__(self, url: httpx.URL, http: OutwardHttp, *, keyed: bool) -> None:
        self._url, self._http, self._keyed = url, http, keyed

    @property
    def supports_since(self) -> bool:
        """A file cannot be asked for what changed."""
        return False

    @property
    def pages_shift(self) -> bool:
        """Nobody comes or goes within one answer."""
        return False

    async def health(self) -> Health:
        """Look at the first page; what that raises becomes an answer."""
        async with aclosing(self.pages()) as pages:
            return Health(reachable=True, authorised=True, shape=True, page=await anext(pages))

    async def pages(self, since: datetime | None = None) -> AsyncGenerator[Page, None]:
        """Everybody, a thousand at a time."""
        number, records = 1, list[Record]()
        async with self._http.stream(self._url) as (status, parts):
            accept_status(status, self._url.host, "", keyed=self._keyed)
            async for line_number, line in _lines(parts):
                records.append(_record(line_number, line))
                if len(records) == _PAGE:
                    yield Page(records, None, number)
                    number, records = number + 1, []
        if records or number == 1:
            yield Page(records, None, number)


async def _lines(parts: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    number, rest = 0, b""
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise SourceBroken(f"line {number + len(lines) + 1} is longer than {_LONGEST_LINE} bytes")
        for line in lines:
            number += 1
            yield number, line
    if rest:
        raise SourceBroken(f"line {number + 1} has no end: the file seems to be cut off")


def _record(number: int, line: bytes) -> Record:
    try:
        record = json.loads(line)
    except ValueError:
        # Its text would quote the line, and so a member.
        record = None
    if not isinstance(record, dict):
        raise SourceBroken(f"line {number} is no JSON object")
    return record
