"""From a connection's configuration to a source that can be read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Final, assert_never

from pydantic import SecretStr

from service.clients.directories.added import NO_SOURCES_ADDED, AddedSources, opened_added
from service.clients.directories.answers import authorization, translated
from service.clients.directories.csv_file import CsvFile, local_file, remote_file
from service.clients.directories.django_rest import DjangoRest
from service.clients.directories.source import Source
from service.clients.outside import Outside
from service.clients.outward_http import OutwardHttp, OutwardLimits
from service.domain.directories.configuration import AddedDirectory, CsvDirectory, Directory, DjangoDirectory, is_local_file

__all__ = ["Outside", "open_source"]

# A file comes in one answer, however many are in it.
_FILE_BYTES: Final = 1024**3
_FILE_TIME: Final = timedelta(minutes=30)


@asynccontextmanager
async def open_source(
    directory: Directory, key: SecretStr | None, outside: Outside, added: AddedSources = NO_SOURCES_ADDED
) -> AsyncIterator[Source]:
    """The source that the configuration describes, and its connections to the end.

    Raises SourceRefused for a key that no header can hold, SourceBroken for an address that is none.
    """
    match directory:
        case DjangoDirectory():
            async with _http(directory.base_url, directory.auth, key, outside, outside.limits) as http:
                yield DjangoRest(directory, http, keyed=key is not None)
        case CsvDirectory() if is_local_file(directory.location):
            yield CsvFile(directory, local_file(directory.location, outside.csv_dir))
        case CsvDirectory():
            limits = replace(outside.limits, most_bytes=_FILE_BYTES, whole=max(_FILE_TIME, outside.limits.whole))
            async with _http(directory.location, directory.auth, key, outside, limits) as http:
                yield CsvFile(directory, remote_file(directory.location, http, keyed=key is not None))
        case AddedDirectory():
            async with opened_added(added[directory.kind], directory, key, outside) as source:
                yield source
        case _:
            assert_never(directory)


def _http(url: str, auth: str, key: SecretStr | None, outside: Outside, limits: OutwardLimits) -> OutwardHttp:
    with translated("the directory's URL: "):
        return outside.http(url, {"accept": "application/json, text/csv", **authorization(auth, key)}, limits)
