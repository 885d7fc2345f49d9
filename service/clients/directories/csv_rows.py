"""CSV as it comes: bytes to text to whole rows, whatever the parts that they arrive in."""

from __future__ import annotations

import codecs
import csv
from collections.abc import AsyncIterator, Iterator
from typing import Final

from service.domain.errors import SourceBroken

__all__ = ["rows"]

# More in one row is no member, or a quote that nobody closes.
_LONGEST_ROW: Final = 1024 * 1024


async def rows(parts: AsyncIterator[bytes], encoding: str | None, delimiter: str) -> AsyncIterator[tuple[int, list[str]]]:
    """Each row (RFC 4180) with the line that it begins on, blank lines left out; raises SourceBroken.

    Without an encoding it is UTF-8, or UTF-16 where the file begins with its mark.
    """
    splitter = _Rows(delimiter)
    async for text in _texts(parts, encoding, splitter):
        for row in splitter.feed(text):
            yield row
    for row in splitter.end():
        yield row


async def _texts(parts: AsyncIterator[bytes], encoding: str | None, splitter: _Rows) -> AsyncIterator[str]:
    decoder: codecs.IncrementalDecoder | None = None
    held = b""
    async for part in parts:
        if decoder is None:
            held += part
            if len(held) < len(codecs.BOM_UTF8):
                continue
            decoder, part, held = _decoder(held, encoding), held, b""
        yield _decoded(decoder, part, splitter)
    if decoder is None:
        decoder, part = _decoder(held, encoding), held
        yield _decoded(decoder, part, splitter)
    yield _decoded(decoder, b"", splitter, last=True)


def _decoder(start: bytes, encoding: str | None) -> codecs.IncrementalDecoder:
    if encoding in (None, "utf-8"):
        encoding = "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return codecs.getincrementaldecoder(encoding or "utf-8-sig")("strict")


def _decoded(decoder: codecs.IncrementalDecoder, part: bytes, splitter: _Rows, *, last: bool = False) -> str:
    try:
        return decoder.decode(part, last)
    except UnicodeError as error:
        name = getattr(error, "encoding", "UTF-16")
        message = f"behind line {splitter.line}: not {name}; the setting `encoding` says what the file is written in"
        raise SourceBroken(message) from None


class _Rows:
    """Cuts text into rows: a line break ends a row where the quotes before it are closed."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._row: list[str] = []
        self._length = 0
        self._quoted = False
        # Lines that were taken whole.
        self.line = 0
        self._begins_on = 1

    def feed(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """The rows that this text completes."""
        lines = text.split("\n")
        for line in lines[:-1]:
            yield from self._take(line + "\n")
        self._grow(lines[-1])

    def end(self) -> Iterator[tuple[int, list[str]]]:
        """What is left when there is no more text."""
        if self._quoted:
            raise SourceBroken(f"line {self._begins_on}: a quote that is never closed; the file seems to be cut off")
        if self._length:
            yield from self._parsed()

    def _take(self, line: str) -> Iterator[tuple[int, list[str]]]:
        self._grow(line)
        self.line += 1
        if not self._quoted:
            yield from self._parsed()
            self._row, self._length = [], 0
            self._begins_on = self.line + 1

    def _grow(self, text: str) -> None:
        if text.count('"') % 2:
            self._quoted = not self._quoted
        self._row.append(text)
        self._length += len(text)
        if self._length > _LONGEST_ROW:
            raise SourceBroken(f"line {self._begins_on}: a row of more than 1 MiB, or a quote that is never closed")

    def _parsed(self) -> Iterator[tuple[int, list[str]]]:
        try:
            # A row alone: with more of them an error would have no line.
            parsed = list(csv.reader(["".join(self._row)], delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            # Its texts quote nothing but the delimiter.
            raise SourceBroken(f"line {self._begins_on}: {error}") from None
        if parsed and parsed[0]:
            yield self._begins_on, parsed[0]
