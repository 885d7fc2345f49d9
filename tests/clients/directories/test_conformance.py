"""Every source is a source: the conformance suite over the Django REST framework server's pagings, and over CSV."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.clients.directories.opening import Outside, open_source
from service.clients.directories.source import Source
from service.domain.directories.configuration import directory
from tests.clients.directories.conformance import CHECKS, Case, Check
from tests.directory_rig import KEY, LOOPBACK, QUICK, Upstream, django_source

NAMES = ["page-number", "limit-offset", "cursor", "bare", "list", "csv file", "csv url"]


def django_case(upstream: Upstream, paging: str) -> Case:
    def opened(members: int) -> AbstractAsyncContextManager[Source]:
        upstream.reset(members)
        return django_source(upstream, paging, pageSize=50)

    return Case(
        paging,
        opened,
        many=260,
        counts=paging in ("page-number", "limit-offset"),
        paged=paging not in ("bare", "list"),
        refused=lambda: django_source(upstream, paging, key="not-the-key"),
        asked=lambda: len(upstream.requests()),
    )


def file_case(folder: Path) -> Case:
    @asynccontextmanager
    async def opened(members: int) -> AsyncIterator[Source]:
        lines = ["id,kennitala,name,email"]
        lines += [
            f"{number},{number % 28 + 1:02}0180{number % 10000:04},Member {number},member{number}@example.com"
            for number in range(1, members + 1)
        ]
        (folder / "members.csv").write_text("\n".join(lines) + "\n")
        described = directory("csv", {"location": "file:members.csv"})
        async with open_source(described, None, Outside(csv_dir=folder)) as source:
            yield source

    return Case("csv file", opened, many=4200)


def url_case(upstream: Upstream) -> Case:
    described = directory("csv", {"location": f"{upstream.url}/files/members.csv"})

    @asynccontextmanager
    async def opened(members: int) -> AsyncIterator[Source]:
        upstream.reset(members)
        async with open_source(described, SecretStr(KEY), Outside(LOOPBACK, limits=QUICK)) as source:
            yield source

    return Case(
        "csv url",
        opened,
        many=4200,
        refused=lambda: open_source(described, SecretStr("not-the-key"), Outside(LOOPBACK, limits=QUICK)),
    )


@pytest.fixture
def case(request: pytest.FixtureRequest, upstream: Upstream, tmp_path: Path) -> Case:
    name: str = request.param
    if name == "csv file":
        return file_case(tmp_path)
    return url_case(upstream) if name == "csv url" else django_case(upstream, name)


@pytest.mark.parametrize("case", NAMES, indirect=True)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_a_source_conforms(case: Case, check: Check) -> None:
    await check(case)
