"""A list endpoint of a Django REST framework API as a source: page-number, limit-offset and cursor paging, or none."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import orjson

from service.clients.directories.answers import NotCalled, accept_status, translated
from service.clients.directories.reading_ahead import reading_ahead
from service.clients.directories.source import Health, Page, Record
from service.clients.outward_http import Answer, OutwardHttp
from service.domain.directories.configuration import DjangoDirectory
from service.domain.errors import SourceBroken, SourceRefused, SourceUnavailable

__all__ = ["DjangoRest"]

_NOT_FOUND: Final = 404
# A source that never ends must not fill our disk: at the smallest useful pages this is still more members than anybody has.
_MOST_PAGES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class _Listing:
    """The body of one answer, its shape checked."""

    records: list[Record]
    count: int | None
    # The query of the link to the next page.
    next_query: bytes | None


class DjangoRest:
    """Reads a list of members page by page, by the API's own links.

    Of a link only its query is used: an API behind a proxy writes its inner address there, and the key goes to the configured
    address or nowhere.
    """

    def __init__(self, directory: DjangoDirectory, http: OutwardHttp, *, keyed: bool) -> None:
        self._directory = directory
        self._http = http
        self._keyed = keyed
        self._host = httpx.URL(directory.base_url).host

    @property
    def supports_since(self) -> bool:
        """Whether the parameter for it is configured."""
        return self._directory.modified_since is not None

    @property
    def pages_shift(self) -> bool:
        """Whether pages are cut by position."""
        return self._directory.by_position

    async def health(self) -> Health:
        """Fetch the first page and look at it."""
        try:
            answer = await self._get(self._first_url(None), 1)
            listing = _listing(answer, self._where(1))
        except SourceUnavailable as error:
            return Health(reachable=False, authorised=None, shape=None, problem=str(error))
        except NotCalled as error:
            return Health(reachable=False, authorised=None, shape=None, problem=str(error))
        except SourceRefused as error:
            return Health(reachable=True, authorised=False, shape=None, problem=str(error))
        except SourceBroken as error:
            return Health(reachable=True, authorised=True, shape=False, problem=str(error))
        return Health(reachable=True, authorised=True, shape=True, page=Page(listing.records, listing.count, 1))

    def pages(self, since: datetime | None = None) -> AsyncGenerator[Page, None]:
        """All pages, or those of what changed since then."""
        return reading_ahead(self._pages(self._first_url(since)))

    async def _pages(self, url: httpx.URL) -> AsyncGenerator[Page, None]:
        read: set[bytes] = set()
        before: list[Record] = []
        for number in range(1, _MOST_PAGES + 1):
            where = self._where(number)
            answer = await self._get(url, number)
            listing = _listing(answer, where)
            if listing.records and listing.records == before:
                raise SourceBroken(f"{where}{self._host} answers the page before once more; is `paging` the API's own?")
            yield Page(listing.records, listing.count, number)
            if listing.next_query is None:
                return
            read.add(answer.url.query)
            if listing.next_query in read:
                raise SourceBroken(f"{where}its link to the next page leads back to one that was read")
            # After a redirect, such as to a path with a slash at its end, where that led to.
            url = answer.url.copy_with(query=listing.next_query)
            before = listing.records
        raise SourceBroken(f"{self._host} has more than {_MOST_PAGES} pages")

    async def _get(self, url: httpx.URL, number: int) -> Answer:
        where = self._where(number)
        with translated(where):
            answer = await self._http.get(url)
        if answer.status == _NOT_FOUND and number > 1:
            # So Django REST framework answers for a page behind the last: it was the last but one a moment ago.
            raise SourceUnavailable(f"{where}the page is gone; the list grew shorter while it was read")
        accept_status(answer.status, self._host, where, keyed=self._keyed)
        return answer

    def _first_url(self, since: datetime | None) -> httpx.URL:
        directory = self._directory
        url = httpx.URL(directory.url)
        if directory.page_size_parameter is not None:
            url = url.copy_set_param(directory.page_size_parameter, directory.page_size)
        if since is not None:
            if directory.modified_since is None:
                raise ValueError("the directory cannot be asked for what changed: it has no modifiedSince")
            written = since.astimezone(UTC).isoformat().replace("+00:00", "Z")
            url = url.copy_set_param(directory.modified_since, written)
        return url

    def _where(self, number: int) -> str:
        return f"page {number}: "


def _listing(answer: Answer, where: str) -> _Listing:
    """The body of an answer, `{count, next, results}`, `{results}` or a bare list; raises SourceBroken."""
    body = _json(answer, where)
    if isinstance(body, list):
        return _Listing(_records(body, where), None, None)
    if not isinstance(body, dict):
        raise SourceBroken(f"{where}the JSON is no list and no object with `results`")
    results = body.get("results")
    if not isinstance(results, list):
        raise SourceBroken(f"{where}the JSON has no list `results`")
    count = body.get("count")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        raise SourceBroken(f"{where}`count` is no number of members")
    return _Listing(_records(results, where), count, _next_query(body.get("next"), where))


def _json(answer: Answer, where: str) -> Any:
    if not answer.body.strip():
        raise SourceBroken(f"{where}the answer is empty")
    if answer.body.lstrip()[:1] == b"<" or "html" in answer.headers.get("content-type", "").lower():
        raise SourceBroken(f"{where}the answer is HTML, not JSON; a page to log in, or another path?")
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}, of {len(answer.body)} bytes"
        cut = "; it seems to be cut off" if error.pos >= len(error.doc) - 1 else ""
        raise SourceBroken(f"{where}not valid JSON at {place}{cut}") from None


def _records(results: list[Any], where: str) -> list[Record]:
    for place, record in enumerate(results, 1):
        if not isinstance(record, dict):
            raise SourceBroken(f"{where}record {place} is no object")
    return results


def _next_query(link: object, where: str) -> bytes | None:
    if link is None:
        return None
    try:
        query = httpx.URL(link).query if isinstance(link, str) else b""
    except httpx.InvalidURL:
        query = b""
    if not query:
        raise SourceBroken(f"{where}`next` is no link with a query, as the pagings of Django REST framework have it")
    return query
