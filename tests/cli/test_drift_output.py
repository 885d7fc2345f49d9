"""Drift runs on the screen: whatever its width, nothing of what somebody needs is cut off."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from rich.console import Console

from service.cli import drift_output
from service.cli.drift_output import print_findings, print_runs
from service.store.drift_findings import DriftFinding, FindingKind
from service.store.drift_runs import DriftRunRow

BEGAN = datetime(2026, 11, 29, 4, 30, tzinfo=UTC)
CLEAN = DriftRunRow(
    id=UUID(int=1),
    job_id=UUID(int=2),
    read_model="audit",
    mode="sampled",
    started_at=BEGAN,
    finished_at=BEGAN + timedelta(seconds=4),
    verdict="clean",
    compared=10_000,
    out_of_sync=0,
    errors=0,
    healed=0,
    truncated=False,
    streak=0,
    promoted=False,
    error=None,
    correlation_id="run",
)
BREACH = replace(
    CLEAN,
    id=UUID(int=3),
    read_model=f"directory:{UUID(int=2**128 - 1)}",
    mode="full",
    verdict="breach",
    compared=1_000_000,
    out_of_sync=12_345,
    errors=3,
    truncated=True,
    streak=2,
    promoted=True,
)
RUNNING = replace(CLEAN, id=UUID(int=4), finished_at=None, verdict=None, compared=0)
FAILED = replace(CLEAN, id=UUID(int=5), verdict="inconclusive", compared=0, error="the directory does not accept the key")


def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int) -> list[str]:
    monkeypatch.setattr(drift_output, "_console", lambda: Console(width=width, color_system=None, force_terminal=True))
    print_runs([CLEAN, BREACH, RUNNING, FAILED])
    return capsys.readouterr().out.splitlines()


def test_a_run_is_a_line_where_there_is_room(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    header, *lines = shown(monkeypatch, capsys, 260)
    assert header.split()[:4] == ["started", "read", "model", "mode"]
    assert len(lines) == 4
    assert lines[1].split()[2:] == [
        *(BREACH.read_model, "full,", "truncated", "breach,", "told", "1,000,000", "12,345", "1.2345%", "3", "0", "2", "4.0"),
        str(BREACH.id),
    ]


def test_in_a_narrow_terminal_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(monkeypatch, capsys, 80)
    assert lines == [
        "audit  sampled  clean",
        f"  2026-11-29 04:30:00  4.0 s  {CLEAN.id}",
        "  0 of 10,000 out of sync (0.0000%)",
        f"{BREACH.read_model}  full, truncated  breach, told",
        f"  2026-11-29 04:30:00  4.0 s  {BREACH.id}",
        "  12,345 of 1,000,000 out of sync (1.2345%), errors 3, streak 2",
        "audit  sampled  not ended",
        f"  2026-11-29 04:30:00  {RUNNING.id}",
        "  0 of 0 out of sync",
        "audit  sampled  inconclusive",
        f"  2026-11-29 04:30:00  4.0 s  {FAILED.id}",
        "  0 of 0 out of sync",
        "  the directory does not accept the key",
    ]
    assert all(len(line) <= 80 for line in lines)


def test_a_long_reason_goes_on_below(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(drift_output, "_console", lambda: Console(width=80, color_system=None, force_terminal=True))
    reason = "the row differs from its audit in version, state, plan, startsAt, expiresAt"
    print_findings([DriftFinding(str(UUID(int=7)), FindingKind.DRIFT, reason)])
    _, *lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == [str(UUID(int=7)), "drift"]
    assert " ".join(word for line in lines for word in line.split()[2 if line is lines[0] else 0 :]) == reason
