"""Have I Been Pwned (API v3): which addresses of a domain appear in data breaches, and what these breaches are.

A domain search answers one JSON object, `{alias: [names of breaches]}`, which of a large domain holds hundreds of thousands: it is
read as it comes. A domain without any is 404; one that was not verified for the key is 403, like a request without a user agent.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx
import orjson

from service.clients.outward_http import OutwardHttp
from service.domain.errors import SourceBroken, SourceRefused

__all__ = ["Breach", "breached_aliases", "headers_of", "known_breaches"]

_OK: Final = 200
_NOT_FOUND: Final = 404
_REFUSALS: Final = {
    401: "it does not accept the key",
    403: "the domain is not verified for the key, or its subscription does not include domain searches",
}
# An address is at most 320 characters, and nobody is in so many breaches; what is longer is no such answer.
_LONGEST_ENTRY: Final = 256 * 1024
_BLANKS: Final = " \t\r\n"
_decoder: Final = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Breach:
    """What is known of a breach."""

    name: str
    title: str
    # A date as it is written, such as 2013-10-04.
    happened_on: str | None
    data_classes: tuple[str, ...]


def headers_of(key: str) -> Mapping[str, str]:
    """What every request carries; raises SourceRefused for a key that no header can hold."""
    if not key.isascii() or not key.isprintable():
        raise SourceRefused("the key holds characters that no HTTP header can, such as a line break in its middle")
    return {"hibp-api-key": key, "user-agent": "rollcall", "accept": "application/json"}


async def known_breaches(http: OutwardHttp, base_url: str) -> Mapping[str, Breach]:
    """All breaches by their names; raises OutwardError, SourceRefused and SourceBroken."""
    url = httpx.URL(f"{base_url}/api/v3/breaches")
    answer = await http.get(url)
    _accept(answer.status, url.host)
    try:
        listed = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        listed = None
    found = [_breach(one) for one in listed] if isinstance(listed, list) else [None]
    if None in found:
        message = f"{url.host} answers what is no list of breaches"
        raise SourceBroken(message)
    return {one.name: one for one in found if one is not None}


async def breached_aliases(
    http: OutwardHttp, base_url: str, domain: str, batch: int
) -> AsyncGenerator[Sequence[tuple[str, Sequence[str]]], None]:
    """What stands before the @ of each breached address of a domain, with the names of its breaches, so many at a time.

    Raises OutwardError, SourceRefused, and SourceBroken where the answer has not the API's shape or does not come to its end.
    """
    url = httpx.URL(f"{base_url}/api/v3/breacheddomain/{quote(domain, safe='')}")
    async with http.stream(url) as (status, parts):
        if status == _NOT_FOUND:
            return
        _accept(status, url.host)
        entries: list[tuple[str, Sequence[str]]] = []
        async for entry in _entries(parts, url.host):
            entries.append(entry)
            if len(entries) == batch:
                yield entries
                entries = []
        if entries:
            yield entries


def _accept(status: int, host: str) -> None:
    if status in _REFUSALS:
        message = f"{host} answers {status}: {_REFUSALS[status]}"
        raise SourceRefused(message)
    if status != _OK:
        message = f"{host} answers {status}, which is no answer of the API"
        raise SourceBroken(message)


def _breach(listed: object) -> Breach | None:
    if not isinstance(listed, dict):
        return None
    name, title, on, classes = (listed.get(key) for key in ("Name", "Title", "BreachDate", "DataClasses"))
    if not isinstance(name, str):
        return None
    return Breach(
        name=name,
        title=title if isinstance(title, str) else name,
        happened_on=on if isinstance(on, str) else None,
        data_classes=tuple(one for one in classes if isinstance(one, str)) if isinstance(classes, list) else (),
    )


async def _entries(parts: AsyncIterator[bytes], host: str) -> AsyncIterator[tuple[str, Sequence[str]]]:
    """The entries of one JSON object of lists of texts, each as soon as it is whole."""
    reader = _ObjectReader()
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        async for part in parts:
            for entry in reader.feed(decoder.decode(part)):
                yield entry
        for entry in reader.feed(decoder.decode(b"", final=True)):
            yield entry
        reader.close()
    except (ValueError, RecursionError):
        message = f"{host} answers what is no domain search"
        raise SourceBroken(message) from None


class _ObjectReader:
    """Takes an object's text piece by piece; raises ValueError for any other, whose text it does not repeat."""

    def __init__(self) -> None:
        self._text = ""
        self._at = 0
        # What comes next: the brace that opens it, the first entry or its end, an entry, a comma or its end, nothing.
        self._wants = "{"

    def feed(self, text: str) -> Iterator[tuple[str, Sequence[str]]]:
        """The entries that are whole by now."""
        self._text = self._text[self._at :] + text
        self._at = 0
        while (entry := self._next()) is not None:
            yield entry
        if len(self._text) - self._at > _LONGEST_ENTRY + len(text):
            raise ValueError("an entry is too long")

    def close(self) -> None:
        """There is no more."""
        self._skip()
        if self._wants or self._at < len(self._text):
            raise ValueError("it does not come to its end")

    def _next(self) -> tuple[str, Sequence[str]] | None:
        while self._skip():
            sign = self._text[self._at]
            if self._wants == "entry" or (self._wants == "first" and sign != "}"):
                return self._entry()
            if self._wants == "{" and sign == "{":
                self._wants = "first"
            elif self._wants == "comma" and sign == ",":
                self._wants = "entry"
            elif self._wants in ("comma", "first") and sign == "}":
                self._wants = ""
            else:
                raise ValueError("it is no object of lists")
            self._at += 1
        return None

    def _entry(self) -> tuple[str, Sequence[str]] | None:
        """The entry that begins here, None where it is not whole yet."""
        begin = self._at
        alias = self._value()
        if alias is not None and self._skip():
            if not isinstance(alias, str) or self._text[self._at] != ":":
                raise ValueError("it is no object")
            self._at += 1
            names = self._value() if self._skip() else None
            if names is not None:
                if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                    raise ValueError("an entry is no list of texts")
                self._wants = "comma"
                return alias, names
        self._at = begin
        return None

    def _value(self) -> Any | None:
        """The text or list that begins here, None where it is not whole yet; anything else is none of ours."""
        if self._text[self._at] not in '"[':
            raise ValueError("it holds what is neither text nor list")
        try:
            value, self._at = _decoder.raw_decode(self._text, self._at)
        except json.JSONDecodeError:
            # Whole or broken, nobody can tell yet: what goes on for too long is broken.
            return None
        return value

    def _skip(self) -> bool:
        """Go to what is no blank; False where there is nothing yet."""
        while self._at < len(self._text) and self._text[self._at] in _BLANKS:
            self._at += 1
        return self._at < len(self._text)
