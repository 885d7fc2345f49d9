"""How a connection's directory is asked, and what its records mean: data only, read once, checked whole."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from service.domain.directories.kinds import NONE_ADDED, AddedKinds, DirectoryKind
from service.domain.directories.mapping import (
    DEFAULT_SETTINGS,
    DirectoryMapping,
    InvalidMapping,
    directory_mapping,
)

__all__ = [
    "CSV",
    "DJANGO",
    "HIDDEN_QUERY",
    "NOT_ASKED",
    "AddedDirectory",
    "CsvDirectory",
    "Directory",
    "DjangoDirectory",
    "InvalidDirectory",
    "UnknownKind",
    "directory",
    "is_local_file",
    "without_queries",
]

DJANGO: Final = "django"
CSV: Final = "csv"
# Kinds of connections whose sources tell by themselves.
NOT_ASKED: Final = frozenset({"stream", "scim"})

# By the paging of Django REST framework, the parameter that it takes the size of a page from; without paging there is none.
_PAGE_SIZE_PARAMETERS: Final[Mapping[str, str | None]] = {
    "page-number": "page_size",
    "limit-offset": "limit",
    "cursor": "page_size",
    "none": None,
}
_AUTH: Final = ("Bearer", "Token")
_DEFAULT_PATH: Final = "/api/members"
_DEFAULT_PAGE_SIZE: Final = 500
_PAGE_SIZES: Final = range(1, 10_001)
# What stands in place of a query where settings are shown: it may hold what opens the address.
HIDDEN_QUERY: Final = "?…"
_SHOWN_WITHOUT_QUERY: Final = "is shown without its query, which may be a secret; give all of it"
_DJANGO_SETTINGS: Final = frozenset(
    {"baseUrl", "path", "auth", "paging", "pageSize", "pageSizeParameter", "modifiedSince", "mapping"}
)
_CSV_SETTINGS: Final = frozenset({"location", "auth", "delimiter", "encoding", "mapping"})
_PARAMETER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_FILE: Final = re.compile(r"file:[^/\s\x00-\x1f][^\x00-\x1f]*")
# What Excel, Google and most exports write; all of them keep a line break a line break when it is read byte by byte or in pairs.
_ENCODINGS: Final = ("utf-8", "utf-16", "iso-8859-1", "iso-8859-15", "windows-1252")


class InvalidDirectory(ValueError):
    """The configuration does not fit; the text names the setting, and shows no address that could hold a password."""


class UnknownKind(InvalidDirectory):
    """There is no directory of this kind here."""


@dataclass(frozen=True, slots=True)
class DjangoDirectory:
    """A list endpoint of a Django REST framework API."""

    # With scheme and host, without user, query or fragment.
    base_url: str
    # Below it; a query in it goes with the first request, and the API repeats it in its links.
    path: str
    auth: str
    page_size: int
    page_size_parameter: str | None
    # Whether the API cuts its pages by position in the list, so that they shift when somebody leaves.
    by_position: bool
    modified_since: str | None
    mapping: DirectoryMapping

    @property
    def url(self) -> str:
        """Where the list is."""
        return self.base_url.rstrip("/") + self.path

    @property
    def place(self) -> str:
        """Where it is."""
        return self.url


@dataclass(frozen=True, slots=True)
class CsvDirectory:
    """A CSV file with a header: one of the operator's own, `file:…`, or one behind a URL."""

    location: str
    auth: str
    delimiter: str
    # None: UTF-8, or UTF-16 where the file begins with its mark.
    encoding: str | None
    mapping: DirectoryMapping
    # Columns without which the file cannot be read.
    required: frozenset[str]

    @property
    def place(self) -> str:
        """Where it is."""
        return self.location

    @property
    def known(self) -> frozenset[str]:
        """The columns that mean something."""
        return frozenset(path[0] for path in self.mapping.paths)


@dataclass(frozen=True, slots=True)
class AddedDirectory:
    """A directory of a kind that this installation has added, by its settings but for the mapping."""

    kind: str
    # Where it is, for people.
    place: str
    settings: Mapping[str, Any]
    mapping: DirectoryMapping
    # Whether only the operator may describe it.
    operators_alone: bool


Directory: TypeAlias = DjangoDirectory | CsvDirectory | AddedDirectory


def directory(kind: str, settings: Mapping[str, Any], added: AddedKinds = NONE_ADDED) -> Directory:
    """The directory that a connection's kind and settings describe; raises InvalidDirectory, saying which setting does not fit."""
    if kind == DJANGO:
        return _django(settings)
    if kind == CSV:
        return _csv(settings)
    if (found := added.get(kind)) is not None:
        return _added(kind, found, settings)
    if kind in NOT_ASKED:
        raise UnknownKind(f"a connection of the kind {kind} has no directory that could be asked")
    there = ", ".join(sorted({DJANGO, CSV, *added}))
    message = (
        f"there is no kind of directory that is called {kind} here; there are {there}, and `rollcall doctor` shows what is wrong"
    )
    raise UnknownKind(message)


def without_queries(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they are shown: a query may hold what opens the address."""
    hidden = {
        name: value.partition("?")[0] + HIDDEN_QUERY
        for name, value in settings.items()
        if isinstance(value, str) and "?" in value and (name in ("location", "path") or "://" in value)
    }
    return {**settings, **hidden}


def is_local_file(location: str) -> bool:
    """Whether a CSV's location is a file of the operator's own."""
    return location.startswith("file:")


def _django(settings: Mapping[str, Any]) -> DjangoDirectory:
    _known(settings, _DJANGO_SETTINGS)
    path = settings.get("path", _DEFAULT_PATH)
    if isinstance(path, str) and path.endswith(HIDDEN_QUERY):
        raise InvalidDirectory(f"path: {_SHOWN_WITHOUT_QUERY}")
    if not isinstance(path, str) or not re.fullmatch(r"/[^\s#\\]*", path):
        raise InvalidDirectory("path begins with / and holds no spaces, such as /api/members/")
    paging = settings.get("paging", "page-number")
    if paging not in _PAGE_SIZE_PARAMETERS:
        raise InvalidDirectory(f"paging is one of {', '.join(_PAGE_SIZE_PARAMETERS)}")
    page_size = settings.get("pageSize", _DEFAULT_PAGE_SIZE)
    if not isinstance(page_size, int) or isinstance(page_size, bool) or page_size not in _PAGE_SIZES:
        raise InvalidDirectory(f"pageSize is a whole number from {_PAGE_SIZES.start} to {_PAGE_SIZES.stop - 1}")
    return DjangoDirectory(
        base_url=_url(settings.get("baseUrl"), "baseUrl", query=False),
        path=path,
        auth=_auth(settings),
        page_size=page_size,
        page_size_parameter=_parameter(settings, "pageSizeParameter") or _PAGE_SIZE_PARAMETERS[paging],
        by_position=paging in ("page-number", "limit-offset"),
        modified_since=_parameter(settings, "modifiedSince"),
        mapping=_mapping(settings, nested=True),
    )


def _csv(settings: Mapping[str, Any]) -> CsvDirectory:
    _known(settings, _CSV_SETTINGS)
    location = settings.get("location")
    if isinstance(location, str) and is_local_file(location):
        if not _FILE.fullmatch(location):
            raise InvalidDirectory("location is file:NAME, below the operator's CSV_DIR, or a URL")
    elif isinstance(location, str) and location.endswith(HIDDEN_QUERY):
        raise InvalidDirectory(f"location: {_SHOWN_WITHOUT_QUERY}")
    else:
        location = _url(location, "location", query=True)
    delimiter = settings.get("delimiter", ",")
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise InvalidDirectory("delimiter is one character, such as a comma, a semicolon or a tab")
    encoding = settings.get("encoding")
    if encoding is not None and encoding not in _ENCODINGS:
        raise InvalidDirectory(f"encoding is one of {', '.join(_ENCODINGS)}")
    mapping = _mapping(settings, nested=False)
    # Where nobody has said what the file holds, only what a member cannot do without is asked for.
    needed = mapping.paths if "mapping" in settings else [mapping.external_id, mapping.member["name"]]
    return CsvDirectory(
        location=location,
        auth=_auth(settings),
        delimiter=delimiter,
        encoding=None if encoding is None else codecs.lookup(encoding).name,
        mapping=mapping,
        required=frozenset(path[0] for path in needed),
    )


def _added(kind: str, found: DirectoryKind, settings: Mapping[str, Any]) -> AddedDirectory:
    own = {name: value for name, value in settings.items() if name != "mapping"}
    for name, value in own.items():
        if isinstance(value, str) and value.endswith(HIDDEN_QUERY):
            raise InvalidDirectory(f"{name}: {_SHOWN_WITHOUT_QUERY}")
    try:
        place, default, alone = found.place(own), found.default_mapping, found.operators_alone
    except InvalidDirectory:
        raise
    except Exception as error:  # noqa: BLE001  # it is anybody's code, and its text may quote what it was given
        raise InvalidDirectory(f"the extension for {kind} fails on these settings ({type(error).__name__})") from None
    return AddedDirectory(
        kind, str(place), own, _mapping({"mapping": default, **settings}, nested=True), operators_alone=bool(alone)
    )


def _known(settings: Mapping[str, Any], names: frozenset[str]) -> None:
    if unknown := sorted(settings.keys() - names):
        raise InvalidDirectory(f"unknown: {', '.join(unknown)}; there are {', '.join(sorted(names))}")


def _auth(settings: Mapping[str, Any]) -> str:
    auth = settings.get("auth", _AUTH[0])
    if auth not in _AUTH:
        raise InvalidDirectory(f"auth is one of {', '.join(_AUTH)}")
    return str(auth)


def _parameter(settings: Mapping[str, Any], name: str) -> str | None:
    value = settings.get(name)
    if value is not None and not (isinstance(value, str) and _PARAMETER.fullmatch(value)):
        raise InvalidDirectory(f"{name} is the name of a query parameter")
    return value


def _url(value: object, name: str, *, query: bool) -> str:
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        fits = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, fits = None, False
    if parts is None or not fits or re.search(r"[\s\\\x00-\x1f\x7f]", parts.geturl()):
        raise InvalidDirectory(f"{name} is an address such as https://members.example.com")
    if "@" in parts.netloc:
        raise InvalidDirectory(f"{name} must hold no user or password; the key is a secret, by reference")
    if parts.fragment or (parts.query and not query):
        raise InvalidDirectory(f"{name} must hold no fragment{'' if query else ' and no query; path may'}")
    return parts.geturl()


def _mapping(settings: Mapping[str, Any], *, nested: bool) -> DirectoryMapping:
    described = settings.get("mapping", DEFAULT_SETTINGS)
    if not isinstance(described, Mapping):
        raise InvalidDirectory("mapping is an object that says where the fields of a member lie")
    try:
        return directory_mapping(described, nested=nested)
    except InvalidMapping as error:
        raise InvalidDirectory(f"mapping: {error}") from None
