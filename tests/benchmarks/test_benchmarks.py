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
from tests.benchmarks.clock_report import Bench, Took
from tests.benchmarks.latency import Latency
from tests.benchmarks.memory import Memory
from tests.benchmarks.report import BEGIN, END, Report, write_into
from tests.benchmarks.rounds import Series, interleaved, ratio
from tests.benchmarks.webhooks import Taken, Webhooks
from tests.benchmarks.whole_way import WholeWay

ROOT = Path(__file__).resolve().parents[2]
SLOW, FAST = Series((100.0, 200.0, 100.0)), Series((150.0, 800.0, 250.0))
WEBHOOKS = {"rollcall", "raw", "fastapi", "confirms"}
REPORT = Report(
    setting={"cores": "2"},
    applied=Applied({"rollcall": FAST, "per_message": SLOW, "raw": FAST}, batches=(1, 30, 500)),
    relayed={"rollcall": SLOW, "raw": FAST, "faststream_outbox": SLOW},
    latency=dict.fromkeys(("rollcall", "bare", "faststream_outbox"), Latency(300, (1.0, 3.0, 2.0), (4.0, 30.0, 11.0), 99.0, 0)),
    webhooks=Webhooks(
        {"rollcall": SLOW, "raw": SLOW, "fastapi": FAST, "confirms": FAST},
        dict.fromkeys(WEBHOOKS, Taken((1.0, 2.0, 9.0), (31.0, 30.0, 4.0), accepted=3_000, refused=1, missing=0)),
    ),
    whole_way=WholeWay(3_000, p50=(9.0, 8.0, 11.0), p99=(30.0, 41.0, 39.0), most=50.0, lost=0),
    telemetry={"nothing": FAST, "off": FAST, "tenth": SLOW, "all": SLOW},
    memory=Memory(1_000, early={"worker": 100.0}, most={"worker": 130.0}, late={"worker": 109.0}),
)


@pytest.mark.slow
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
        async with asyncio.timeout(600):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    report = json.loads(figures.read_text())
    assert report["applied"]["rates"].keys() == {"rollcall", "per_message", "raw"}
    assert report["relayed"].keys() == {"rollcall", "raw", "faststream_outbox"}
    assert report["telemetry"].keys() == {"nothing", "off", "tenth", "all"}
    parts = (report["applied"]["rates"], report["relayed"], report["webhooks"]["rates"])
    rounds = [series for part in parts for series in part.values()]
    assert all(len(series["rates"]) == 1 and series["rates"][0] > 0 for series in rounds)
    assert sum(report["applied"]["batches"]) == 500 + 600 + 400
    assert report["latency"].keys() == {"rollcall", "bare", "faststream_outbox"}
    for latency in report["latency"].values():
        assert 0 < latency["p50"][0] <= latency["p99"][0] <= latency["most"]
    assert report["whole_way"]["lost"] == 0
    assert report["memory"]["late"].keys() == {"worker", "relay"}
    assert report["latency"]["rollcall"]["out_of_order"] == 0
    assert report["webhooks"]["rates"].keys() == report["webhooks"]["taken"].keys() == WEBHOOKS
    for taken in report["webhooks"]["taken"].values():
        assert 0 < taken["p50"][0] <= taken["p99"][0]
        assert (taken["accepted"], taken["refused"], taken["missing"]) == (500 + 500, 0, 0)


@pytest.mark.parametrize(
    ("module", "options", "items"),
    [
        ("expiry", ["--members", "2000", "--expired", "100", "--rounds", "1"], 100),
        ("ticks", ["--schedules", "500", "--due", "50", "--rounds", "1"], 50),
    ],
)
async def test_the_clock_is_measured(
    postgres_url: str, rabbitmq_url: str, tmp_path: Path, module: str, options: list[str], items: int
) -> None:
    figures = tmp_path / "figures.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"tests.benchmarks.{module}", *options, "--json", str(figures)),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": postgres_url, "RABBITMQ_URL": rabbitmq_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    found = json.loads(figures.read_text())
    assert (found["name"], found["items"]) == (module, items)
    assert all(len(found[part]) == 1 and found[part][0]["seconds"] > 0 for part in ("rollcall", "bare"))
    assert found["ratio"] > 0


def test_the_clock_s_figures_have_their_place_in_the_page_and_stay_within_it(tmp_path: Path) -> None:
    took = [Took(2.0, 0.5, 1.0), Took(1.0, 0.3, None), Took(4.0, 0.4, 1.2)]
    bare = [Took(1.0, 0.0, 0.9), Took(1.0, 0.0, 0.9), Took(1.0, 0.0, 0.9)]
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("expiry", "ticks"):
        bench = Bench(name, "things are due", 1000, 5000, {"cores": "2"}, took, bare, [0.004], 60.4)
        assert (bench.seconds, bench.ratio) == (2.0, 0.5)
        bench.write_into(page)
        text = page.read_text(encoding="utf-8")
        bench.write_into(page)
        assert page.read_text(encoding="utf-8") == text
    assert text.count("| rollcall | 2.00 (1.00 to 4.00) | 500 | 400 | ? |") == 2
    assert text.count("| one bare statement | 1.00 (1.00 to 1.00) | 1,000 | 0 | 900 |") == 2
    assert text.count("Beside the bare statement of its round: 0.50. Nothing due: 4.0 ms. Peak memory: 60 MB.") == 2
    outside = PAGE.read_text(encoding="utf-8").partition("<!-- figures of expiry")[0]
    assert text.startswith(outside)
    page.write_text("no place")
    with pytest.raises(ValueError, match="once each"):
        bench.write_into(page)


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
    assert "| Rollcall's relay | 2.0 ms | 1.0 to 3.0 | 11.0 ms | 99 ms | 0 | ≤ 2 and 10 ms, missed |" in text
    assert "| FastAPI, aio-pika | 250 | 150 to 800 | 0.40 | 0.25 to 0.67 | ≥ 2, missed |" in text
    assert "| Rollcall's edge | 2.0 ms | 30.0 ms | 4.0 to 31.0 | 3,000 | 1 | 0 | ≤ 30 ms, 0 lost, met |" in text
    assert "| 3,000 | 9.0 ms | 39.0 ms | 30.0 to 41.0 | 50 ms | 0 | ≤ 10 and 40 ms, met |" in text
    assert "| worker | 100 MiB | 130 MiB | 109 MiB | +9% | ≤ +10%, met |" in text
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
