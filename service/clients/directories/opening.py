"""From a connection's configuration to a source that can be read."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, assert_never

import httpx
from pydantic import SecretStr

from service.clients.directories.answers import authorization
from service.clients.directories.csv_file import CsvFile, local_file, remote_file
from service.clients.directories.django_rest import DjangoRest
from service.clients.directories.source import Source
from service.clients.guarded_transport import Resolver, resolve
from service.clients.outward_http import OutwardHttp, OutwardLimits
from service.domain.addresses import Network
from service.domain.directories.configuration import CsvDirectory, Directory, DjangoDirectory, is_local_file
from service.domain.errors import SourceBroken

__all__ = ["Outside", "open_source"]

# A file comes in one answer, however many are in it.
_FILE_BYTES: Final = 1024**3
_FILE_TIME: Final = timedelta(minutes=30)
_LIMITS: Final = OutwardLimits()


@dataclass(frozen=True, slots=True)
class Outside:
    """What the operator allows, and how patient calls to the outside are."""

    opened: Sequence[Network] = ()
    csv_dir: Path | None = None
    limits: OutwardLimits = _LIMITS
    resolver: Resolver = resolve
    ssl_context: ssl.SSLContext | None = None


@asynccontextmanager
async def open_source(directory: Directory, key: SecretStr | None, outside: Outside) -> AsyncIterator[Source]:
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
        case _:
            assert_never(directory)


def _http(url: str, auth: str, key: SecretStr | None, outside: Outside, limits: OutwardLimits) -> OutwardHttp:
    try:
        origin = httpx.URL(url).copy_with(path="/", query=None)
    except httpx.InvalidURL:
        raise SourceBroken("the directory's URL is no address that could be called") from None
    return OutwardHttp(
        str(origin),
        {"accept": "application/json, text/csv", **authorization(auth, key)},
        opened=outside.opened,
        limits=limits,
        resolver=outside.resolver,
        ssl_context=outside.ssl_context,
    )
