"""Where the servers of tests keep their data: in memory, where there is room and programs may run."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.local_stack import in_memory
from deploy.local_stack.memory import _LEAST_FREE_BYTES
from deploy.local_stack.processes import Reaper


def has(monkeypatch: pytest.MonkeyPatch, free: int, flags: int = 0) -> None:
    room = SimpleNamespace(f_bavail=free // 4096, f_frsize=4096, f_flag=flags)
    monkeypatch.setattr(os, "statvfs", lambda _: room)


def test_memory_with_room_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    has(monkeypatch, _LEAST_FREE_BYTES)
    assert in_memory(tmp_path) == tmp_path


def test_memory_that_is_small_or_runs_no_programs_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # As Docker gives a container.
    has(monkeypatch, 64 * 1024**2)
    assert in_memory(tmp_path) is None
    has(monkeypatch, _LEAST_FREE_BYTES, os.ST_NOEXEC)
    assert in_memory(tmp_path) is None


def test_where_there_is_no_memory_to_write_to_it_is_not_taken(tmp_path: Path) -> None:
    assert in_memory(tmp_path / "missing") is None


def test_data_lie_where_they_were_wanted_and_are_gone_in_the_end(tmp_path: Path) -> None:
    with Reaper(tmp_path) as reaper:
        directory = reaper.make_directory(None)
        assert directory.parent == tmp_path
    assert not directory.exists()
