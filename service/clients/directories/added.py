"""Sources that an installation adds: whatever their code does, what comes out of them is a source's (docs/extending/source.md)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

from pydantic import SecretStr

from service.clients.directories.answers import translated
from service.clients.directories.reading_ahead import reading_ahead
from service.clients.directories.source import Health, Page, Source
from service.clients.outside import Outside
from service.domain.directories.configuration import AddedDirectory
from service.domain.directories.kinds import DirectoryKind
from service.domain.errors import SourceBroken, SourceRefused, SourceUnavailable

__all__ = ["NO_SOURCES_ADDED", "AddedSources", "SourceExtension", "opened_added"]


class SourceExtension(DirectoryKind, Protocol):
    """A kind of directory that somebody adds: what its settings mean, and how it is read."""

    def open(self, settings: Mapping[str, Any], key: SecretStr | None, outside: Outside) -> AbstractAsyncContextManager[Source]:
        """The source that settings describe which `place` has accepted; `key` is the secret that the connection refers to.

        HTTP goes through `outside.http`, whose errors need no translation; of others than a source's only the kinds are told. Its
        `health` may raise a source's errors too: an answer is made of them. Fetching ahead, and numbering pages, is done for it.
        """
        ...


AddedSources: TypeAlias = Mapping[str, SourceExtension]

NO_SOURCES_ADDED: Final[AddedSources] = MappingProxyType({})

# Nothing that an extension can answer by mistake: the end of a complete reading removes whoever was not in it.
_END: Final = object()


@asynccontextmanager
async def opened_added(
    extension: SourceExtension, directory: AddedDirectory, key: SecretStr | None, outside: Outside
) -> AsyncIterator[Source]:
    """Its source, closed at the end, from which nothing comes that a source may not answer or raise."""
    with _told(directory.kind):
        opened = extension.open(directory.settings, key, outside)
        source = await opened.__aenter__()
    try:
        yield _CheckedSource(directory.kind, source)
    except BaseException as error:
        # It may look at what went wrong in the work, and not swallow it.
        with _told(directory.kind):
            await opened.__aexit__(type(error), error, error.__traceback__)
        raise
    else:
        with _told(directory.kind):
            await opened.__aexit__(None, None, None)


class _CheckedSource:
    """Another source, fetched ahead, whose pages and errors are what a source's must be."""

    def __init__(self, kind: str, source: Source) -> None:
        self._kind, self._source = kind, source

    @property
    def supports_since(self) -> bool:
        """Whether it can be asked for what changed since an instant."""
        return self._source.supports_since

    @property
    def pages_shift(self) -> bool:
        """Whether pages are cut by position."""
        return self._source.pages_shift

    async def health(self) -> Health:
        """Look at the first page; never raises for what is wrong with the source."""
        try:
            with _told(self._kind):
                health = await self._source.health()
                if health.page is not None:
                    _checked(self._kind, health.page)
        except SourceUnavailable as error:
            return Health(reachable=False, authorised=None, shape=None, problem=str(error))
        except SourceRefused as error:
            return Health(reachable=True, authorised=False, shape=None, problem=str(error))
        except SourceBroken as error:
            return Health(reachable=True, authorised=None, shape=False, problem=str(error))
        return health

    def pages(self, since: datetime | None = None) -> AsyncGenerator[Page, None]:
        """All pages, or those of what changed since then."""
        if since is not None and not self.supports_since:
            raise ValueError(f"a directory of the kind {self._kind} cannot be asked for what changed")
        return reading_ahead(self._pages(since))

    async def _pages(self, since: datetime | None) -> AsyncGenerator[Page, None]:
        with _told(self._kind):
            pages = self._source.pages(since)
        number = 0
        try:
            while True:
                with _told(self._kind):
                    page: object = await anext(pages, _END)
                if page is _END:
                    break
                page = _checked(self._kind, page)
                number += 1
                yield Page(page.records, page.count, number)
        finally:
            with _told(self._kind):
                await pages.aclose()
        if not number:
            # Nothing at all is what a reading that went wrong looks like; a directory that is empty says so by an empty page.
            raise SourceBroken(f"the extension for {self._kind} answers no page, not even an empty one")


def _checked(kind: str, page: object) -> Page:
    if not isinstance(page, Page):
        raise SourceBroken(f"the extension for {kind} answers what is no page")
    for place, record in enumerate(page.records, 1):
        if not isinstance(record, Mapping):
            raise SourceBroken(f"record {place} of a page is no object")
    count: object = page.count
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        raise SourceBroken("the count of the directory's members is no number of members")
    return page


@contextmanager
def _told(kind: str) -> Iterator[None]:
    """A source's errors as they are, the way's as those of a source, all others by their kind alone: they may quote anything."""
    try:
        with translated():
            yield
    except (SourceUnavailable, SourceRefused, SourceBroken):
        raise
    except OSError as error:
        # A timeout among them.
        raise SourceUnavailable(f"the extension for {kind} reaches nothing ({type(error).__name__})") from None
    except Exception as error:  # noqa: BLE001  # it is anybody's code
        raise SourceBroken(f"the extension for {kind} fails ({type(error).__name__})") from None
