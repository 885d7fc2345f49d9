"""Sources that an installation adds: the documented example conforms like the built-in ones, and the worst can do is to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from service.clients.directories.opening import Outside, open_source
from service.clients.directories.source import Health, Page, Source
from service.clients.outward_http import OutwardUnavailable
from service.domain.directories.configuration import AddedDirectory, InvalidDirectory, UnknownKind, directory, without_queries
from service.domain.directories.mapping import DEFAULT_SETTINGS
from service.domain.errors import RollcallError, SourceBroken, SourceRefused, SourceUnavailable
from service.wiring.extensions import load_extensions
from tests.clients.directories.conformance import CHECKS, Case, Check
from tests.directory_rig import KEY, LOOPBACK, QUICK, Upstream, read_all
from tests.extension_rig import build_wheel, install_wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel("json_lines", tmp_path_factory.mktemp("json_lines"))


@pytest.fixture
def example(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    install_wheel(wheel, tmp_path / "site", monkeypatch)
    return load_extensions().sources


@pytest.fixture
def case(example: Any, upstream: Upstream) -> Case:
    described = directory("json-lines", {"url": f"{upstream.url}/files/members.jsonl"}, example)
    outside = Outside(LOOPBACK, limits=QUICK)

    @asynccontextmanager
    async def opened(members: int) -> AsyncIterator[Source]:
        upstream.reset(members)
        async with open_source(described, SecretStr(KEY), outside, example) as source:
            yield source

    return Case(
        "json lines",
        opened,
        many=4200,
        refused=lambda: open_source(described, SecretStr("not-the-key"), outside, example),
    )


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_example_conforms(case: Case, check: Check) -> None:
    await check(case)


async def test_the_example_goes_through_the_guard(example: Any, upstream: Upstream) -> None:
    described = directory("json-lines", {"url": f"{upstream.url}/files/members.jsonl"}, example)
    async with open_source(described, None, Outside(limits=QUICK), example) as source:
        health = await source.health()
        with pytest.raises(SourceBroken):
            await read_all(source)
    assert (health.well, health.page) == (False, None)
    assert not upstream.requests()


def test_its_settings_are_checked_and_its_mapping_is_a_mapping_like_any(example: Any) -> None:
    url = "https://members.example/m.jsonl"
    found = directory("json-lines", {"url": url, "mapping": {"externalId": "uid", "member": {"name": "a.b"}}}, example)
    assert isinstance(found, AddedDirectory)
    assert (found.place, found.settings, found.mapping.mapped_fields) == (url, {"url": url}, ["name"])
    assert directory("json-lines", {"url": url}, example).mapping.mapped_fields == ["email", "name", "national_id"]
    for settings, said in (
        ({}, "url is an address"),
        ({"url": url, "page": 1}, "unknown: page"),
        ({"url": f"{url}?…"}, "without its query"),
        ({"url": url, "mapping": 7}, "mapping is an object"),
        ({"url": url, "mapping": {"externalId": "x"}}, "mapping: "),
    ):
        with pytest.raises(InvalidDirectory, match=said):
            directory("json-lines", settings, example)
    with pytest.raises(UnknownKind, match="there are csv, django, and"):
        directory("json-lines", {"url": url})


def test_queries_of_whatever_looks_like_an_address_are_not_shown() -> None:
    settings = {"url": "https://x.example/a?key=hush", "path": "/a?key=hush", "filter": "(a?b)", "size": 5}
    assert without_queries(settings) == {"url": "https://x.example/a?…", "path": "/a?…", "filter": "(a?b)", "size": 5}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"id": 1}\n{"id": 2, "name": "Anna"', "line 2 has no end"),
        ('{"id": 1}\nAnna 010101-1234\n', "line 2 is no JSON object"),
        ("[1]\n", "line 1 is no JSON object"),
    ],
)
async def test_what_the_example_cannot_read_is_said_without_a_value(example: Any, body: str, said: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/m"
    async with server, open_source(directory("json-lines", {"url": url}, example), None, Outside(LOOPBACK), example) as source:
        health = await source.health()
        with pytest.raises(SourceBroken, match=said) as broken:
            await read_all(source)
    assert health.problem == str(broken.value)
    assert "Anna" not in str(broken.value)


class Odd:
    """A kind whose parts a test makes fail."""

    operators_alone = False
    default_mapping: Mapping[str, Any] = DEFAULT_SETTINGS
    supports_since = False
    pages_shift = False

    def __init__(self, pages: Callable[[], Iterator[Any]] | None = None, first: Any = None, **faults: Exception) -> None:
        self._pages, self._first, self._faults, self.ended = pages, first, faults, 0

    def place(self, _: Mapping[str, Any]) -> str:
        self._fail("place")
        return "there"

    @asynccontextmanager
    async def open(self, *_: Any) -> AsyncIterator[Any]:
        self._fail("open")
        try:
            yield self
        finally:
            self.ended += 1
        self._fail("close")

    async def health(self) -> Health:
        self._fail("health")
        return Health(reachable=True, authorised=True, shape=True, page=self._first)

    async def pages(self, _: datetime | None = None) -> AsyncGenerator[Any, None]:
        for page in self._pages() if self._pages else iter(()):
            if isinstance(page, Exception):
                raise page
            yield page

    def _fail(self, where: str) -> None:
        if where in self._faults:
            raise self._faults[where]


def opened(odd: Odd) -> AbstractAsyncContextManager[Source]:
    added: Any = {"odd": odd}
    return open_source(directory("odd", {}, added), None, Outside(), added)


def page(*records: Any, count: Any = None, number: int = 1) -> Page:
    return Page(list(records), count, number)


SECRET = "010101-1234"


@pytest.mark.parametrize(
    ("pages", "error", "said"),
    [
        ([RuntimeError(SECRET)], SourceBroken, r"the extension for odd fails \(RuntimeError\)"),
        ([page({"id": 1}), KeyError(SECRET)], SourceBroken, r"fails \(KeyError\)"),
        ([ConnectionResetError(SECRET)], SourceUnavailable, r"reaches nothing \(ConnectionResetError\)"),
        ([TimeoutError(SECRET)], SourceUnavailable, r"reaches nothing \(TimeoutError\)"),
        ([OutwardUnavailable("it answers 503")], SourceUnavailable, "it answers 503"),
        ([SourceRefused("the key is not accepted")], SourceRefused, "the key is not accepted"),
        ([], SourceBroken, "answers no page"),
        ([[{"id": 1}]], SourceBroken, "what is no page"),
        # Taken for the end of a complete reading, it would remove whoever comes after it.
        ([page({"id": 1}), None, page({"id": 2})], SourceBroken, "what is no page"),
        ([page([SECRET])], SourceBroken, "record 1 of a page is no object"),
        ([page({"id": 1}, count=-1)], SourceBroken, "no number of members"),
        ([page({"id": 1}, count="7")], SourceBroken, "no number of members"),
        ([page({"id": 1}, count=True)], SourceBroken, "no number of members"),
    ],
)
async def test_whatever_comes_instead_of_pages_is_an_error_of_the_source(
    pages: list[Any], error: type[RollcallError], said: str
) -> None:
    async with opened(Odd(lambda: iter(pages))) as source:
        with pytest.raises(error, match=said) as raised:
            await read_all(source)
    assert SECRET not in f"{raised.value} {raised.value.__cause__}"


async def test_pages_are_numbered_whatever_they_say() -> None:
    async with opened(Odd(lambda: iter([page({"id": 1}, number=7), page({"id": 2}, number=7)]))) as source:
        assert [one.number for one in await read_all(source)] == [1, 2]


@pytest.mark.parametrize(
    ("fault", "reachable", "authorised"),
    [(RuntimeError(SECRET), True, None), (OSError(SECRET), False, None), (SourceRefused("no"), True, False)],
)
async def test_a_look_that_fails_is_an_answer(fault: Exception, reachable: bool, authorised: bool | None) -> None:
    async with opened(Odd(health=fault)) as source:
        health = await source.health()
    assert (health.reachable, health.authorised, health.well) == (reachable, authorised, False)
    assert SECRET not in str(health.problem)


async def test_a_look_at_what_is_no_page_is_no_shape() -> None:
    async with opened(Odd(first=page(SECRET))) as source:
        assert (await source.health()).shape is False


@pytest.mark.parametrize("where", ["open", "close"])
async def test_opening_and_closing_fail_as_a_source_does(where: str) -> None:
    with pytest.raises(SourceBroken, match=r"fails \(RuntimeError\)"):
        async with opened(Odd(lambda: iter([page()]), **{where: RuntimeError(SECRET)})) as source:
            await read_all(source)


async def test_an_error_of_the_work_passes_and_the_source_is_closed() -> None:
    odd = Odd(lambda: iter([page()]))
    with pytest.raises(LookupError, match="of the work"):
        async with opened(odd):
            raise LookupError("of the work")
    assert odd.ended == 1


async def test_it_is_not_asked_for_what_changed_where_it_cannot_be() -> None:
    async with opened(Odd(lambda: iter([page()]))) as source:
        with pytest.raises(ValueError, match="what changed"):
            await read_all(source, datetime(2026, 1, 1, tzinfo=UTC))


def test_settings_that_break_a_kind_do_not_fit() -> None:
    added: Any = {"odd": Odd(place=ZeroDivisionError(SECRET))}
    with pytest.raises(InvalidDirectory, match=r"fails on these settings \(ZeroDivisionError\)") as raised:
        directory("odd", {}, added)
    assert SECRET not in str(raised.value)
