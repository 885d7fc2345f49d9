"""The benchmark of notifications still runs; how fast anything is, no test says."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from deploy.local_stack import create_database, drop_database
from deploy.local_stack.databases import in_thread
from service.store.migrate import migrate
from tests.benchmarks.notifications import CONTENDERS, measure, show


@pytest.mark.slow
async def test_the_healthy_ones_get_everything_alone_and_beside_the_others(postgres_url: str, tmp_path: Path) -> None:
    template = create_database(postgres_url)
    try:
        in_thread(lambda: migrate(template))
        figures = await measure(postgres_url, template, events=20, rounds=1)
    finally:
        drop_database(template)

    assert {name: len(rounds) for name, rounds in figures["rounds"].items()} == dict.fromkeys(CONTENDERS, 1)
    with (tmp_path / "shown").open("w") as file:
        show(Console(file=file, width=200), figures)
    assert "aim at most 1.3" in (tmp_path / "shown").read_text()
