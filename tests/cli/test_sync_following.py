"""How far a sync is, as whoever waits for it sees it."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from service.cli.sync_following import progress_bar, show_progress
from service.domain.jobs import JobState

FETCH = {"phase": "fetch", "fetched": 2500, "of": 10_000, "rate": 5000.0, "eta_seconds": 1.5}
APPLY = {**FETCH, "phase": "apply", "applied": 30, "to_apply": 40, "rate": 10.0, "eta_seconds": 1.0}


def seen(state: JobState, *told: dict[str, Any], terminal: bool = True) -> str:
    screen = Console(file=StringIO(), force_terminal=terminal, color_system=None, width=100)
    bar = progress_bar(screen)
    shown = bar.add_task("waiting for a worker", total=None, speed="")
    for one in told:
        show_progress(bar, shown, state, one)
    assert bar.disable is not terminal
    with screen.capture() as captured:
        screen.print(bar.get_renderable())
    return " ".join(captured.get().split())


@pytest.mark.parametrize(
    ("state", "told", "says"),
    [
        (JobState.QUEUED, [FETCH], ["waiting for a worker"]),
        (JobState.RUNNING, [{}], ["waiting for a worker"]),
        (JobState.RUNNING, [FETCH], ["fetch", "25%", "2,500 at 5,000/s, 2 s left"]),
        (JobState.RUNNING, [{**FETCH, "of": None, "eta_seconds": None}], ["fetch", "2,500 at 5,000/s"]),
        (JobState.RUNNING, [FETCH, {**FETCH, "phase": "compare"}], ["compare"]),
        (JobState.RUNNING, [FETCH, APPLY], ["apply", "75%", "30 at 10/s, 1 s left"]),
        (JobState.RUNNING, [{**APPLY, "phase": "foresee"}], ["foresee", "75%"]),
    ],
)
def test_the_bar_says_phase_share_and_speed(state: JobState, told: list[dict[str, Any]], says: list[str]) -> None:
    line = seen(state, *told)
    assert all(words in line for words in says), line


def test_where_nobody_watches_there_is_no_bar() -> None:
    seen(JobState.RUNNING, FETCH, terminal=False)
