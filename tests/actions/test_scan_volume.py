"""A scan of a million members: right, and with a batch's memory."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from service.store.database import Database
from tests.scan_rig import Scans, open_scans

MILLION = 1_000_000
MEBIBYTE = 1024


@pytest.fixture
async def scans(database_url: str) -> AsyncIterator[Scans]:
    async with open_scans(database_url) as opened:
        filling = await Database.connect(database_url, name="tests", size=1, slowest=timedelta(minutes=10))
        async with filling.transaction() as tx:
            await tx.execute(
                "insert into members (id, company_id, name, email, upstream_state, state, version) "
                f"select gen_random_uuid(), '{opened.company}', 'Anna', "
                "'m' || case when n % 100 = 0 then n - 1 else n end || case when n % 1000 = 7 then '@elsewhere.example' "
                "else '@choir.example' end, 'active', 'active', 1 "
                f"from generate_series(1, {MILLION}) n"
            )
            await tx.execute("analyze members")
        await filling.close()
        yield opened


@pytest.mark.slow
async def test_a_million_members_are_scanned_in_bounded_memory_and_again_without_a_new_finding(scans: Scans) -> None:
    await scans.configure(duplicates={}, email_domain={"allowedDomains": ["choir.example"]})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    first = await scans.scan()

    assert first.state == "succeeded", first
    counts = {name: (part["found"], part["opened"], part["resolved"]) for name, part in first.result["providers"].items()}
    # Of every hundred the last has the address of the one before it.
    assert counts == {"duplicates": (20_000, 20_000, 0), "email_domain": (1000, 1000, 0)}
    again = await scans.scan()
    counts = {name: (part["found"], part["opened"], part["resolved"]) for name, part in again.result["providers"].items()}
    assert counts == {"duplicates": (20_000, 0, 0), "email_domain": (1000, 0, 0)}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * MEBIBYTE
    for row in await scans.fetch("select provider, finished_at - started_at as took from scan_parts order by 2 desc"):
        print(f"{row['provider']}: {row['took'].total_seconds():.1f} s")
