"""`rollcall run` as a process."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from service.cli import processes


def test_what_is_loaded_at_the_start_is_not_looked_through_again_while_the_service_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    tracked: list[int] = []

    async def run_process(*_: Any, on_start: Callable[[object], None]) -> None:
        on_start(None)
        tracked.append(len(gc.get_objects()))

    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    monkeypatch.setenv("RABBITMQ_URL", "amqp://127.0.0.1:1/")
    monkeypatch.setattr(processes, "run_process", run_process)
    monkeypatch.setattr(processes, "configure_logs", lambda *_: None)
    before, thresholds = len(gc.get_objects()), gc.get_threshold()
    try:
        processes.run([])
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
    assert tracked[0] < before / 10
