"""When something that is done again and again is due: on an interval's own grid, or by a cron expression on a zone's clocks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias, assert_never
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

__all__ = ["SHORTEST_INTERVAL", "Advance", "Cron", "Every", "InvalidSchedule", "Rhythm", "advance", "cron", "every", "next_slot"]

SHORTEST_INTERVAL: Final = timedelta(seconds=1)
_LONGEST_INTERVAL: Final = timedelta(days=366)
_FIELDS: Final = 5
_HOURS: Final = 24
# More slots than that, a week of minutes, are counted as that many: each has to be worked out.
_MOST_COUNTED: Final = 10_080
_MINUTE: Final = timedelta(minutes=1)


class InvalidSchedule(ValueError):
    """Nothing can be done by such a schedule; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again after the same time, on the grid of the slot before."""

    interval: timedelta


@dataclass(frozen=True, slots=True)
class Cron:
    """Minute, hour, day, month and weekday, as the clocks of the zone show them."""

    expression: str
    zone: ZoneInfo


Rhythm: TypeAlias = Every | Cron


@dataclass(frozen=True, slots=True)
class Advance:
    """The next slot, and how many between this one and now get no run of their own."""

    next_run_at: datetime
    skipped: int


def every(interval: timedelta) -> Every:
    """An interval of a second to a year; raises InvalidSchedule."""
    if not SHORTEST_INTERVAL <= interval <= _LONGEST_INTERVAL:
        raise InvalidSchedule("an interval is between a second and 366 days")
    return Every(interval)


def cron(expression: str, time_zone: str) -> Cron:
    """Five fields on the clocks of a zone; raises InvalidSchedule, also for what never comes."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        message = f"there is no time zone {time_zone!r}"
        raise InvalidSchedule(message) from None
    if len(expression.split()) != _FIELDS:
        raise InvalidSchedule("a cron expression has five fields: minute, hour, day, month, weekday")
    rhythm = Cron(expression, zone)
    try:
        next_slot(rhythm, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        message = f"the cron expression does not fit: {error}"
        raise InvalidSchedule(message) from None
    return rhythm


def next_slot(rhythm: Rhythm, after: datetime) -> datetime:
    """The first slot after this one, in UTC; raises InvalidSchedule where none comes."""
    match rhythm:
        case Every(interval):
            return after + interval
        case Cron(expression, zone):
            return _next_by_clock(expression, zone, after)
        case _:
            assert_never(rhythm)


def advance(rhythm: Rhythm, slot: datetime, now: datetime) -> Advance:
    """Where a schedule goes on after the run of a slot that was due: at its first slot after now; no outage makes a burst."""
    match rhythm:
        case Every(interval):
            passed = max(0, (now - slot) // interval)
            return Advance(slot + (passed + 1) * interval, passed)
        case Cron():
            skipped = 0
            following = next_slot(rhythm, slot)
            while following <= now and skipped < _MOST_COUNTED:
                skipped += 1
                following = next_slot(rhythm, following)
            return Advance(following if following > now else next_slot(rhythm, now), skipped)
        case _:
            assert_never(rhythm)


def _next_by_clock(expression: str, zone: ZoneInfo, after: datetime) -> datetime:
    """The next moment at which the clocks of the zone show what the expression says.

    One that they skip as they go forward comes when they have; one that they show twice as they go back comes the first time.
    What is done each hour goes by elapsed time instead, and neither pauses nor repeats.
    """
    local = after.astimezone(zone)
    hourly = len(CronSim(expression, local).hours) == _HOURS
    slots = CronSim(expression, local if hourly else local.replace(tzinfo=None))
    for found in slots:
        instant = found.astimezone(UTC) if hourly else _first_instant(found, zone)
        # The wall clock of an hour that comes twice says again what has been.
        if instant > after:
            return instant
    raise InvalidSchedule("the cron expression names no day that comes within 50 years")


def _first_instant(shown: datetime, zone: ZoneInfo) -> datetime:
    """When the clocks first show it, or go past it."""
    while True:
        there = shown.replace(tzinfo=zone, fold=0)
        instant = there.astimezone(UTC)
        if instant.astimezone(zone).replace(tzinfo=None, fold=0) == shown:
            return instant
        shown += _MINUTE
