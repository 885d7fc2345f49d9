"""The benchmark of syncs still runs; how fast anything is, no test says, but how much memory it takes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.benchmarks.sync import PAGE, measured
from tests.benchmarks.sync_people import STEPS
from tests.benchmarks.sync_report import (
    BARE,
    BEGIN,
    END,
    OVER_HTTP,
    ROLLCALL,
    ROW_BY_ROW,
    WITH_BOOKS,
    Figures,
    Measured,
    SyncReport,
    write_into,
)

ROOT = Path(__file__).resolve().parents[2]


async def test_every_contender_brings_its_members_in_step(postgres_url: str, rabbitmq_url: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.sync", "--members", "200", "--json", str(figures)),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": postgres_url, "RABBITMQ_URL": rabbitmq_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(180):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    (found,) = json.loads(figures.read_text())["sizes"].values()
    assert found.keys() == {ROLLCALL, BARE, WITH_BOOKS, OVER_HTTP, ROW_BY_ROW}
    assert all(one["steps"].keys() == set(STEPS) for one in found.values())
    assert all(step["seconds"] > 0 for one in found.values() for step in one["steps"].values())


@pytest.mark.slow
def test_a_sync_of_many_takes_no_more_memory_than_one_of_few(database_url: str) -> None:
    few, many = (measured(database_url, ROLLCALL, size).peak_mb for size in (4_000, 40_000))
    assert many <= few * 1.2
    assert many <= 200


def figures(seconds: float) -> dict[str, Figures]:
    return {step: Figures(seconds, seconds / 2, None) for step in STEPS}


REPORT = SyncReport(
    {"cores": "2"},
    {
        10_000: {ROLLCALL: Measured(figures(0.2), 100), BARE: Measured(figures(0.1), 70), WITH_BOOKS: Measured(figures(0.1), 70)},
        100_000: {ROLLCALL: Measured(figures(2.0), 125), BARE: Measured(figures(2.5), 70), WITH_BOOKS: Measured(figures(0.5), 70)},
    },
)


def test_the_figures_are_judged_by_their_aims(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    write_into(page, REPORT)
    write_into(page, REPORT)
    text = page.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n\nMeasured on cores 2.\n")
    assert text.endswith(f"\n\n{END}\n\nafter\n")
    assert "old" not in text
    assert "| 100,000 | rollcall | 2.00 (1.00 + ?) | 2.00 (1.00 + ?) | 2.00 (1.00 + ?) | 2.00 (1.00 + ?) | 125 |" in text
    assert "- 100,000 members, no change: 0.80 times the floor; aim ≤ 1, met." in text
    assert "- 100,000 members, initial: 4.00 times the floor with audit and outbox; aim ≤ 2.5, missed." in text
    assert "- Memory: 125 MB at 100,000 members, +25% of that at 10,000; aim ≤ 200 MB and ≤ +20%, missed." in text
    assert "- Microseconds a member, initial: 20, 20; from 10,000 on ±0%, aim ±25%, met." in text


def test_a_page_without_its_two_comments_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{END}\n{BEGIN}\n")
    with pytest.raises(ValueError, match="once each"):
        write_into(page, REPORT)
    assert page.read_text() == f"{END}\n{BEGIN}\n"


def test_the_benchmarks_page_has_a_place_for_figures() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
