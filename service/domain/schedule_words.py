"""Schedules in plain words: what runs how often, when it did and when it will."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

__all__ = ["interval_in_words", "last_in_words", "next_in_words", "rhythm_in_words", "time_in_words"]

_UNITS: Final = (
    ("day", timedelta(days=1)),
    ("hour", timedelta(hours=1)),
    ("minute", timedelta(minutes=1)),
    ("second", timedelta(seconds=1)),
)
_MILLISECOND: Final = timedelta(milliseconds=1)


def rhythm_in_words(interval_ms: int | None, cron: str | None, time_zone: str | None) -> str:
    """`every 5 minutes`, or `at 30 4 * * SUN in UTC`."""
    return f"at {cron} in {time_zone}" if interval_ms is None else interval_in_words(interval_ms * _MILLISECOND)


def next_in_words(next_run_at: datetime, now: datetime, *, enabled: bool) -> str:
    """`in 3 minutes`, `off`, or `due, 2 hours ago`.

    What is late waits for something: a job that runs, a connection that is blocked, somebody who looks at a quarantine.
    """
    if not enabled:
        return "off"
    away = next_run_at - now
    return time_in_words(away) if away > timedelta(0) else f"due, {time_in_words(away)}"


def last_in_words(last_run_at: datetime | None, now: datetime) -> str:
    """`2 hours ago`, or `never`."""
    return "never" if last_run_at is None else time_in_words(last_run_at - now)


def interval_in_words(interval: timedelta) -> str:
    """In the largest unit that it is a whole number of: `every 5 minutes`."""
    for unit, length in _UNITS:
        if interval and interval % length == timedelta(0):
            count = interval // length
            return f"every {unit}" if count == 1 else f"every {count} {unit}s"
    return f"every {interval / timedelta(seconds=1):g} seconds"


def time_in_words(away: timedelta) -> str:
    """How far off, in the largest unit that fits: `in 3 minutes`, `2 hours ago`, `now`."""
    for unit, length in _UNITS:
        if count := abs(away) // length:
            far = f"{count} {unit}{'' if count == 1 else 's'}"
            return f"in {far}" if away > timedelta(0) else f"{far} ago"
    return "now"
