"""Days and terms of plans: when a plan begins by a company's clocks, and when its term is over."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, time
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from service.domain.change import PendingPlan

__all__ = ["LONGEST_TERM_MONTHS", "InvalidPlanChange", "add_months", "planned", "today_in", "zone_of"]

LONGEST_TERM_MONTHS: Final = 1200
_MONTHS: Final = 12
_FIRST_DAY: Final = date(2000, 1, 1)
_LAST_DAY: Final = date(2999, 12, 31)


class InvalidPlanChange(ValueError):
    """A plan cannot be changed like that; the text says what is wrong and holds no personal data."""


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its IANA name; raises InvalidPlanChange."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        message = f"there is no time zone {name!r}"
        raise InvalidPlanChange(message) from None


def today_in(zone: ZoneInfo, now: datetime) -> date:
    """The day that it is there."""
    return now.astimezone(zone).date()


def add_months(day: date, months: int) -> date:
    """The same day so many months later, or the last of a month that is too short: 31 January and a month is 28 or 29 February."""
    years, month = divmod(day.month - 1 + months, _MONTHS)
    year = day.year + years
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def planned(
    plan: str,
    effective_on: date,
    zone: ZoneInfo,
    *,
    expires_at: datetime | None = None,
    term_months: int | None = None,
) -> PendingPlan:
    """A plan from a day on, with its end where one is given: as an instant, or in months from the day; raises InvalidPlanChange.

    A term ends as its last day does: at midnight, by the company's clocks.
    """
    if not _FIRST_DAY <= effective_on <= _LAST_DAY:
        message = f"a plan begins between {_FIRST_DAY} and {_LAST_DAY}"
        raise InvalidPlanChange(message)
    if term_months is None:
        if expires_at is not None and expires_at <= _midnight(effective_on, zone):
            raise InvalidPlanChange("a plan ends after its first day has begun")
        return PendingPlan(plan, effective_on, expires_at)
    if expires_at is not None:
        raise InvalidPlanChange("a plan ends at an instant or after a term, not both")
    if not 1 <= term_months <= LONGEST_TERM_MONTHS:
        message = f"a term is 1 to {LONGEST_TERM_MONTHS} months"
        raise InvalidPlanChange(message)
    return PendingPlan(plan, effective_on, _midnight(add_months(effective_on, term_months), zone))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """The day's first instant there; where the clocks go forward at midnight, the one that they go forward at."""
    return datetime.combine(day, time(), zone).astimezone(UTC)
