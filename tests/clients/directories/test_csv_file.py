"""CSV files as they are in the world: encodings, line ends, quotes, and what is cut off, ragged or changing."""

from __future__ import annotations

import asyncio
import codecs
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from service.clients.directories.csv_rows import rows
from service.clients.directories.opening import Outside, open_source
from service.clients.directories.source import Health, Record
from service.domain.directories.configuration import directory
from service.domain.directories.mapping import MappedRecord, mapped_record
from service.domain.errors import SourceBroken, SourceUnavailable
from tests.directory_rig import read_all, records

HEADER = "id,kennitala,name,email\n"
NAMED = {"externalId": "id", "member": {"name": "name", "email": "email"}}


async def read(folder: Path, content: bytes | str, **settings: Any) -> list[Record]:
    (folder / "members.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    described = directory("csv", {"location": "file:members.csv", **settings})
    async with open_source(described, None, Outside(csv_dir=folder)) as source:
        return records(await read_all(source))


async def health(folder: Path | None, location: str = "file:members.csv") -> Health:
    async with open_source(directory("csv", {"location": location}), None, Outside(csv_dir=folder)) as source:
        return await source.health()


PLAIN = 'id,name\n1,Þórður\n2,"Ann, the ""first"""\n3,"two\nlines"\n'
MEANT = [{"id": "1", "name": "Þórður"}, {"id": "2", "name": 'Ann, the "first"'}, {"id": "3", "name": "two\nlines"}]


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        (PLAIN.encode(), {}),
        (codecs.BOM_UTF8 + PLAIN.encode(), {}),
        (codecs.BOM_UTF8 + PLAIN.encode(), {"encoding": "utf-8"}),
        (PLAIN.encode("utf-16"), {}),
        (codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"), {"encoding": "utf-16"}),
        (PLAIN.encode("latin-1"), {"encoding": "iso-8859-1"}),
        (PLAIN.encode("cp1252"), {"encoding": "windows-1252"}),
        (PLAIN.replace("1,", "1;").replace("2,", "2;").replace("3,", "3;").replace("id,", "id;").encode(), {"delimiter": ";"}),
        (PLAIN.rstrip("\n").encode(), {}),
        (PLAIN.replace("2,", "\n\n2,").encode(), {}),
    ],
)
async def test_encodings_delimiters_quotes_and_blank_lines(tmp_path: Path, content: bytes, settings: dict[str, Any]) -> None:
    assert await read(tmp_path, content, **settings) == MEANT


async def test_line_ends_of_windows(tmp_path: Path) -> None:
    assert await read(tmp_path, "id,name\r\n1,Anna\r\n\r\n2,Bjorn\r\n") == [
        {"id": "1", "name": "Anna"},
        {"id": "2", "name": "Bjorn"},
    ]


async def in_parts(content: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
async def test_however_the_bytes_are_cut(encoding: str, size: int) -> None:
    found = [row async for row in rows(in_parts(PLAIN.encode(encoding), size), None if encoding == "utf-16" else encoding, ",")]
    assert [row for _, row in found] == [["id", "name"], *([one["id"], one["name"]] for one in MEANT)]
    assert [line for line, _ in found] == [1, 2, 3, 4]


BROKEN: list[tuple[bytes | str, dict[str, Any], str]] = [
    (b"", {}, "the file is empty"),
    (codecs.BOM_UTF8, {}, "the file is empty"),
    ("\n\n", {}, "the file is empty"),
    ("id;name\n1;Anna\n", {}, "the header has no column id, name; it has one column only: is the delimiter ;?"),
    ("id\tname\n", {}, "is the delimiter a tab?"),
    ("id,kennitala\n1,2\n", {}, "the header has no column name"),
    ("id,name\n1,Anna\n", {"mapping": NAMED}, "the header has no column email"),
    ("id,name,\n1,Anna,x\n", {}, "column 3 has no name in the header"),
    ("id,name,name\n1,Anna,Bjorn\n", {}, "the header has more than one column name"),
    ("id,name\n1,Anna\n2\n", {}, "line 3: 1 fields where the header has 2"),
    ("id,name\n1,Anna\n2,Bjorn,x\n", {}, "line 3: 3 fields where the header has 2"),
    ('id,name\n1,Anna\n2,"Bjo', {}, "line 3: a quote that is never closed; the file seems to be cut off"),
    ('id,name\n1,"Anna"x\n', {}, "line 2: ',' expected after '\"'"),
    ("id,name\n1,An\rna\n", {}, "line 2: new-line character seen in unquoted field"),
    ("id,name\n1,Anna\n2," + "x" * 140_000 + "\n", {}, "line 3: field larger than field limit"),
    ('id,name\n1,"' + "x\n" * 600_000, {}, "line 2: a row of more than 1 MiB"),
    ("id,name\n1,Þórður\n".encode("latin-1"), {}, "not utf-8; the setting `encoding`"),
    ("id,name\n1,Anna\n".encode("utf-16")[:-1], {}, "not utf-16"),
]


@pytest.mark.parametrize(("content", "settings", "text"), BROKEN, ids=[text for *_, text in BROKEN])
async def test_what_is_no_table_is_broken_and_says_where(
    tmp_path: Path, content: bytes | str, settings: dict[str, Any], text: str
) -> None:
    with pytest.raises(SourceBroken) as failed:
        await read(tmp_path, content, **settings)
    assert text in str(failed.value)
    for name in ("Anna", "Bjo", "xxx"):
        assert name not in str(failed.value)


async def test_only_a_header_is_a_directory_of_nobody(tmp_path: Path) -> None:
    assert await read(tmp_path, HEADER) == []


async def test_a_row_maps_like_any_record(tmp_path: Path) -> None:
    (record,) = await read(tmp_path, HEADER + "7,010101-1234,Anna,\n")
    result = mapped_record(directory("csv", {"location": "file:x"}).mapping, record)
    assert isinstance(result, MappedRecord)
    assert (result.external_id, result.member) == ("7", {"nationalId": "0101011234", "name": "Anna", "email": None})


async def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "outside.csv").write_text(HEADER)
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "link.csv").symlink_to(tmp_path / "outside.csv")
    (folder / "folder.csv").mkdir()
    for name in ("../outside.csv", "link.csv", "folder.csv"):
        found = await health(folder, f"file:{name}")
        assert (found.shape, found.problem) == (False, f"file:{name} is no file below CSV_DIR")
    assert (await health(None)).problem == "file:members.csv needs CSV_DIR"


async def test_a_file_that_is_not_there_may_be_there_later(tmp_path: Path) -> None:
    found = await health(tmp_path)
    assert (found.reachable, found.problem) == (False, "file:members.csv cannot be read (FileNotFoundError)")


async def test_a_file_that_changes_while_it_is_read_is_no_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "members.csv"
    path.write_text(HEADER + "".join(f"{number},,Member {number},\n" for number in range(50_000)))
    async with open_source(directory("csv", {"location": "file:members.csv"}), None, Outside(csv_dir=tmp_path)) as source:
        async with aclosing(source.pages()) as pages:
            await anext(pages)
            with path.open("a") as file:
                file.write("50000,,Late,\n")
            with pytest.raises(SourceUnavailable, match="changed while it was read"):
                async for _ in pages:
                    pass
        async with aclosing(source.pages()) as pages:
            await anext(pages)
            other = tmp_path / "next.csv"
            other.write_text(HEADER)
            other.replace(path)
            with pytest.raises(SourceUnavailable, match="changed while it was read"):
                async for _ in pages:
                    pass


async def peak_of(folder: Path, members: int) -> int:
    """The greatest memory that reading so many takes, in bytes."""
    path = folder / f"{members}.csv"
    with path.open("w") as file:
        file.write(HEADER)
        file.writelines(f"{number},0101{number:06},Member {number},member{number}@example.com\n" for number in range(members))
    async with open_source(directory("csv", {"location": f"file:{path.name}"}), None, Outside(csv_dir=folder)) as source:
        tracemalloc.start()
        try:
            seen = 0
            async with aclosing(source.pages()) as pages:
                async for page in pages:
                    seen += len(page.records)
                    await asyncio.sleep(0)
            assert seen == members
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


async def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    small, large = await peak_of(tmp_path, 5_000), await peak_of(tmp_path, 30_000)
    assert large < small * 1.5
