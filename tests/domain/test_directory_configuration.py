"""How a directory is described: what is taken, and which setting does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from service.domain.directories.configuration import CsvDirectory, DjangoDirectory, InvalidDirectory, directory

URL = "https://members.example.com"


def test_the_shortest_description_is_that_of_the_seed() -> None:
    found = directory("django", {"baseUrl": URL})
    assert isinstance(found, DjangoDirectory)
    assert (found.url, found.auth, found.page_size, found.page_size_parameter) == (f"{URL}/api/members", "Bearer", 500, "page_size")
    assert found.mapping.mapped_fields == ["email", "name", "national_id"]
    assert (found.by_position, found.modified_since) == (True, None)


@pytest.mark.parametrize(
    ("paging", "parameter", "by_position"),
    [("page-number", "page_size", True), ("limit-offset", "limit", True), ("cursor", "page_size", False), ("none", None, False)],
)
def test_the_paging_says_how_a_size_is_asked_for_and_whether_pages_shift(
    paging: str, parameter: str | None, by_position: bool
) -> None:
    found = directory("django", {"baseUrl": f"{URL}/v1/", "path": "/people/?active=1", "paging": paging})
    assert isinstance(found, DjangoDirectory)
    assert (found.page_size_parameter, found.by_position, found.url) == (parameter, by_position, f"{URL}/v1/people/?active=1")


def test_a_file_and_its_columns() -> None:
    found = directory("csv", {"location": "file:exports/members.csv"})
    assert isinstance(found, CsvDirectory)
    # Without a mapping only what a member cannot do without; with one everything that it names.
    assert found.required == {"id", "name"}
    mapping = {"externalId": "No.", "member": {"name": "Full name", "email": "E-mail"}}
    found = directory("csv", {"location": f"{URL}/a.csv?key=1", "delimiter": ";", "encoding": "windows-1252", "mapping": mapping})
    assert isinstance(found, CsvDirectory)
    assert found.required == found.known == {"No.", "Full name", "E-mail"}
    assert found.encoding == "cp1252"


INVALID: list[tuple[str, dict[str, Any], str]] = [
    ("django", {}, "baseUrl is an address"),
    ("django", {"baseUrl": "members.example.com"}, "baseUrl is an address"),
    ("django", {"baseUrl": "ftp://members.example.com"}, "baseUrl is an address"),
    ("django", {"baseUrl": "https://"}, "baseUrl is an address"),
    ("django", {"baseUrl": "https://a b.example"}, "baseUrl is an address"),
    ("django", {"baseUrl": "https://members.example:99999"}, "baseUrl is an address"),
    ("django", {"baseUrl": "https://[::1"}, "baseUrl is an address"),
    ("django", {"baseUrl": 7}, "baseUrl is an address"),
    ("django", {"baseUrl": "https://user:hush@members.example"}, "baseUrl must hold no user or password"),
    ("django", {"baseUrl": f"{URL}/?key=hush"}, "baseUrl must hold no fragment and no query"),
    ("django", {"baseUrl": f"{URL}/#x"}, "baseUrl must hold no fragment"),
    ("django", {"baseUrl": URL, "path": "api"}, "path begins with /"),
    ("django", {"baseUrl": URL, "path": "/a b"}, "path begins with /"),
    ("django", {"baseUrl": URL, "path": None}, "path begins with /"),
    ("django", {"baseUrl": URL, "auth": "Basic"}, "auth is one of"),
    ("django", {"baseUrl": URL, "paging": "pages"}, "paging is one of"),
    ("django", {"baseUrl": URL, "pageSize": 0}, "pageSize is a whole number"),
    ("django", {"baseUrl": URL, "pageSize": True}, "pageSize is a whole number"),
    ("django", {"baseUrl": URL, "pageSize": "5"}, "pageSize is a whole number"),
    ("django", {"baseUrl": URL, "modifiedSince": "a&b"}, "modifiedSince is the name"),
    ("django", {"baseUrl": URL, "mapping": "x"}, "mapping is an object"),
    ("django", {"baseUrl": URL, "mapping": {}}, "mapping: member says where"),
    ("django", {"baseUrl": URL, "page_size": 5}, "unknown: page_size"),
    ("csv", {}, "location is an address"),
    ("csv", {"location": "file:/etc/passwd"}, "location is file:NAME"),
    ("csv", {"location": "file:"}, "location is file:NAME"),
    ("csv", {"location": "/etc/passwd"}, "location is an address"),
    ("csv", {"location": "file:a.csv", "delimiter": ";;"}, "delimiter is one character"),
    ("csv", {"location": "file:a.csv", "delimiter": '"'}, "delimiter is one character"),
    ("csv", {"location": "file:a.csv", "encoding": "rot13"}, "encoding is one of"),
    ("csv", {"location": "file:a.csv", "modifiedSince": "x"}, "unknown: modifiedSince"),
    ("stream", {}, "has no directory"),
]


@pytest.mark.parametrize(("kind", "settings", "text"), INVALID, ids=[f"{kind} {settings}" for kind, settings, _ in INVALID])
def test_what_does_not_fit_is_named_and_not_shown(kind: str, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidDirectory, match=text) as refused:
        directory(kind, settings)
    assert "hush" not in str(refused.value)
