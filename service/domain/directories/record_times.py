"""When something was, as the records of a directory write it; pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from service.domain.source_mapping import Path, counted_time, written

__all__ = ["instant_of"]

_DATE_LENGTH: Final = len("2026-11-22")


def instant_of(value: object, path: Path, unit: timedelta | None, zone: tzinfo | None, *, last: bool = False) -> datetime | None:
    """The instant in UTC; None where it is no time at all, which the contract says better. A date is its first or last instant.

    `unit` is what numbers count, `zone` where times without an offset are meant; `path` is named by the ValueError.
    """
    if unit is not None:
        try:
            return counted_time(int(value) if isinstance(value, str) and value.isdecimal() else value, unit)
        except ValueError as error:
            raise ValueError(f"{written(path)}: {error}") from None
    if not isinstance(value, str):
        return None
    try:
        if len(value) == _DATE_LENGTH:
            instant = datetime.combine(date.fromisoformat(value), time.max if last else time.min)
        else:
            instant = datetime.fromisoformat(value.upper())
    except ValueError:
        return None
    if instant.tzinfo is UTC:
        return instant
    if instant.tzinfo is None:
        if zone is None:
            raise ValueError(f"{written(path)}: a time without its offset; the mapping's timeZone says which is meant")
        instant = instant.replace(tzinfo=zone)
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        return None
