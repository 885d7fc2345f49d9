"""The benchmarks still run; how fast anything is, no test says."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import PAGE
from tests.benchmarks.apply import Applied
from tests.benchmarks.latency import Latency
from tests.benchmarks.report import BEGIN, END, Report, write_into
from tests.benchmarks.rounds import Series, interleaved, ratio

ROOT = Path(__file__).resolve().parents[2]
SLOW, FAST = Series((100.0, 200.0, 100.0)), Series((150.0, 800.0, 250.0))
REPORT = Report(
    setting={"cores": "2"},
    applied=Applied({"rollcall": FAST, "per_message": SLOW, "raw": FAST}, batches=(1, 30, 500)),
    relayed={"rollcall": SLOW, "raw": FAST, "faststream_outbox": SLOW},
    latency=Latency(events=2_000, per_second=199.9, p50=1.0, p99=3.0, most=9.0, out_of_order=0),
)


async def test_every_contender_does_its_work_and_the_figures_are_written(
    postgres_url: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.benchmarks",
        "--quick",
        "--json",
        str(figures),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": postgres_url, "RABBITMQ_URL": rabbitmq_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(300):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    report = json.loads(figures.read_text())
    assert report["applied"]["rates"].keys() == {"rollcall", "per_message", "raw"}
    assert report["relayed"].keys() == {"rollcall", "raw", "faststream_outbox"}
    rounds = [*report["applied"]["rates"].values(), *report["relayed"].values()]
    assert all(len(series["rates"]) == 1 and series["rates"][0] > 0 for series in rounds)
    assert sum(report["applied"]["batches"]) == 500 + 600 + 400
    assert report["latency"]["out_of_order"] == 0
    assert 0 < report["latency"]["p50"] <= report["latency"]["p99"] <= report["latency"]["most"]


async def test_each_round_begins_with_another_contender() -> None:
    order: list[str] = []

    async def run(name: str) -> float:
        order.append(name)
        return float(len(order))

    rates = await interleaved(("a", "b"), 3, run, lambda _: None)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert rates == {"a": Series((1.0, 4.0, 5.0)), "b": Series((2.0, 3.0, 6.0))}


def test_a_ratio_is_that_of_the_medians_and_its_range_that_of_the_rounds() -> None:
    times = ratio(FAST, SLOW)
    assert (times.median, times.least, times.most) == (2.5, 1.5, 4.0)


def test_the_figures_of_a_page_are_replaced_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    write_into(page, REPORT)
    write_into(page, REPORT)
    text = page.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n\nMeasured on cores 2.\n")
    assert text.endswith(f"\n\n{END}\n\nafter\n")
    assert "| FastStream, a transaction per message | 100 | 100 to 200 | 2.50 | 1.50 to 4.00 | ≥ 2, met |" in text
    assert "| aio-pika, confirmed publishing alone | 250 | 150 to 800 | 0.40 | 0.25 to 0.67 | ≥ 0.8, missed |" in text
    assert "old" not in text


def test_a_page_without_its_two_comments_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{END}\n{BEGIN}\n")
    with pytest.raises(ValueError, match="once each"):
        write_into(page, REPORT)
    assert page.read_text() == f"{END}\n{BEGIN}\n"


def test_the_benchmarks_page_has_a_place_for_figures() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
