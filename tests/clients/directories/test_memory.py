"""A hundred thousand members through the whole client, in a process of its own: what it takes does not grow with their number."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.directory_rig import ROOT, Upstream

READER = """
import asyncio, json, resource, sys
from contextlib import aclosing
from tests.directory_rig import Upstream, django_source
from service.domain.directories.mapping import DEFAULT_MAPPING, mapped_record

async def main(port, paging):
    seen, peak = 0, []
    async with django_source(Upstream(port, None, None), paging, pageSize=2000) as source, aclosing(source.pages()) as pages:
        async for page in pages:
            for record in page.records:
                mapped_record(DEFAULT_MAPPING, record)
            seen += len(page.records)
            peak.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    print(json.dumps({"seen": seen, "early": peak[4], "last": peak[-1]}))

asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("paging", ["page-number", "cursor"])
def test_a_hundred_thousand_members_take_no_more_than_ten_thousand(upstream: Upstream, paging: str) -> None:
    upstream.reset(100_000)
    ended = subprocess.run(
        [sys.executable, "-c", READER, str(upstream.port), paging], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    print(found)
    assert found["seen"] == 100_000
    # In MiB; the first ten thousand are five pages, by which everything was loaded and the pages ahead were there.
    assert found["last"] <= found["early"] * 1.1
