"""A CSV file with a header as a source: one of the operator's own below CSV_DIR, or one behind a URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

import httpx

from service.clients.directories.answers import NotCalled, accept_status, translated
from service.clients.directories.csv_rows import rows
from service.clients.directories.reading_ahead import reading_ahead
from service.clients.directories.source import Health, Page, Record
from service.clients.outward_http import OutwardHttp
from service.domain.directories.configuration import CsvDirectory
from service.domain.errors import SourceBroken, SourceRefused, SourceUnavailable

__all__ = ["CsvFile", "Opened", "local_file", "remote_file"]

# Opens the file: its bytes as they come.
Opened: TypeAlias = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]

_PAGE_ROWS: Final = 1000
_PART_BYTES: Final = 256 * 1024
_LIKELY_DELIMITERS: Final = ";,\t|"
_MOST_NAMED: Final = 10


class CsvFile:
    """Reads a CSV from its beginning to its end; complete is what ended where the file ends."""

    def __init__(self, directory: CsvDirectory, opened: Opened) -> None:
        self._directory = directory
        self._opened = opened

    @property
    def supports_since(self) -> bool:
        """A file has no memory of when its rows changed."""
        return False

    @property
    def pages_shift(self) -> bool:
        """A file stands still: one that changes while it is read is an error."""
        return False

    async def health(self) -> Health:
        """Read the first page and look at it."""
        try:
            async with aclosing(self._pages()) as pages:
                page = await anext(pages)
        except (SourceUnavailable, NotCalled) as error:
            return Health(reachable=False, authorised=None, shape=None, problem=str(error))
        except SourceRefused as error:
            return Health(reachable=True, authorised=False, shape=None, problem=str(error))
        except SourceBroken as error:
            return Health(reachable=True, authorised=True, shape=False, problem=str(error))
        return Health(reachable=True, authorised=True, shape=True, page=page)

    def pages(self, since: datetime | None = None) -> AsyncGenerator[Page, None]:
        """All rows, a thousand a page."""
        if since is not None:
            raise ValueError("a CSV cannot be asked for what changed")
        return reading_ahead(self._pages())

    async def _pages(self) -> AsyncGenerator[Page, None]:
        number = 1
        records: list[Record] = []
        header: list[str] | None = None
        async with self._opened() as parts:
            async for line, row in rows(parts, self._directory.encoding, self._directory.delimiter):
                if header is None:
                    header = self._header(row)
                    continue
                if len(row) != len(header):
                    raise SourceBroken(f"line {line}: {len(row)} fields where the header has {len(header)}")
                records.append(dict(zip(header, row, strict=True)))
                if len(records) == _PAGE_ROWS:
                    yield Page(records, None, number)
                    number, records = number + 1, []
        if header is None:
            raise SourceBroken("the file is empty: it has not even a header")
        if records or number == 1:
            yield Page(records, None, number)

    def _header(self, row: list[str]) -> list[str]:
        header = [name.strip() for name in row]
        if missing := sorted(self._directory.required - set(header)):
            named = ", ".join(missing[:_MOST_NAMED])
            raise SourceBroken(f"the header has no column {named}{self._hint(row)}")
        if not all(header):
            raise SourceBroken(f"column {header.index('') + 1} has no name in the header")
        if twice := sorted({name for name in header if header.count(name) > 1} & self._directory.known):
            raise SourceBroken(f"the header has more than one column {', '.join(twice)}")
        return header

    def _hint(self, row: list[str]) -> str:
        others = [one for one in _LIKELY_DELIMITERS if one != self._directory.delimiter and one in row[0]]
        if len(row) > 1 or not others:
            return ""
        return f"; it has one column only: is the delimiter {'a tab' if others[0] == chr(9) else others[0]}?"


def local_file(location: str, folder: Path | None) -> Opened:
    """The file that `file:NAME` means, below the operator's folder."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        if folder is None:
            raise SourceBroken(f"{location} needs CSV_DIR")
        try:
            root = await asyncio.to_thread(folder.resolve, strict=True)
            path = await asyncio.to_thread((root / location.removeprefix("file:")).resolve, strict=True)
            if not path.is_relative_to(root) or not path.is_file():
                raise SourceBroken(f"{location} is no file below CSV_DIR")
            # Without buffer: what a page needs is read at once.
            file = await asyncio.to_thread(path.open, "rb", 0)
        except (OSError, RuntimeError) as error:
            raise SourceUnavailable(f"{location} cannot be read ({type(error).__name__})") from None
        with file:
            yield _parts_of(location, path, file.read)

    return opened


async def _parts_of(location: str, path: Path, read: Callable[[int], bytes]) -> AsyncIterator[bytes]:
    def seen() -> tuple[int, int, int]:
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    try:
        before = await asyncio.to_thread(seen)
        while part := await asyncio.to_thread(read, _PART_BYTES):
            yield part
        after = await asyncio.to_thread(seen)
    except OSError as error:
        raise SourceUnavailable(f"{location} cannot be read to its end ({type(error).__name__})") from None
    if before != after:
        raise SourceUnavailable(f"{location} changed while it was read; write it elsewhere and rename it into its place")


def remote_file(location: str, http: OutwardHttp, *, keyed: bool) -> Opened:
    """The file behind a URL."""
    url = httpx.URL(location)

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        with translated():
            async with http.stream(url) as (status, parts):
                accept_status(status, url.host, "", keyed=keyed)
                yield parts

    return opened
