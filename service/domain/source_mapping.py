"""What the mappings of webhooks and of directories have in common: member fields, paths into JSON, times and texts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from service.domain.change import SOURCE_FIELDS

__all__ = [
    "ABSENT",
    "DATES",
    "MEMBER_FIELDS",
    "REMOVED",
    "InvalidMapping",
    "Path",
    "check_key",
    "counted_time",
    "find",
    "microseconds",
    "parse_member",
    "parse_optional_path",
    "parse_path",
    "parse_texts",
    "parse_time_unit",
    "written",
]

Path: TypeAlias = tuple[str, ...]

# What `find` answers where nothing is; null is something that a source says.
ABSENT: Final = object()
# Some sources say by its state that a member has left.
REMOVED: Final = "removed"
DATES: Final = frozenset({"startsAt", "expiresAt"})

_UNITS: Final = {"seconds": timedelta(seconds=1), "milliseconds": timedelta(milliseconds=1)}
_RFC3339: Final = "rfc3339"
_MOST_STEPS: Final = 10
_LONGEST_PATH: Final = 200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return "".join([first, *(word.title() for word in rest)])


# The domain's names by the contract's.
MEMBER_FIELDS: Final = {_camel(name): name for name in SOURCE_FIELDS}


class InvalidMapping(ValueError):
    """The mapping does not fit; the text names the setting."""


def parse_member(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The setting `member`: where each field of a member lies, by the contract's names; raises InvalidMapping."""
    member = settings.get("member")
    if not isinstance(member, Mapping) or not member:
        raise InvalidMapping(f"member says where the fields of a member lie: {', '.join(sorted(MEMBER_FIELDS))}")
    if unknown := sorted(str(name) for name in member.keys() - MEMBER_FIELDS.keys()):
        raise InvalidMapping(f"member knows no {', '.join(unknown)}; there are {', '.join(sorted(MEMBER_FIELDS))}")
    if "name" not in member:
        raise InvalidMapping("member.name is needed: a new member needs a name")
    if settings.get("externalId") is None:
        raise InvalidMapping("externalId says where the member's key lies")
    return member


def check_key(external_id: Path, national_id: Path | None) -> None:
    """Raise InvalidMapping where the member's key would be the national id."""
    if external_id == national_id:
        raise InvalidMapping("externalId travels in events and must not be the national id")


def parse_optional_path(settings: Mapping[str, Any], name: str) -> Path | None:
    """The path under that setting, where there is one; raises InvalidMapping."""
    path = settings.get(name)
    return None if path is None else parse_path(path, name)


def parse_path(value: object, name: str) -> Path:
    """The steps of a path, `name` being the setting that holds it; raises InvalidMapping."""
    steps = tuple(value.split(".")) if isinstance(value, str) and len(value) <= _LONGEST_PATH else ()
    if not 0 < len(steps) <= _MOST_STEPS or not all(steps):
        raise InvalidMapping(f"{name} is a path such as data.object.id, of at most {_MOST_STEPS} steps")
    return steps


def parse_texts(value: object, name: str) -> dict[str, str]:
    """A setting that maps texts to texts; raises InvalidMapping."""
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in (*value.keys(), *value.values())):
        raise InvalidMapping(f"{name} maps texts to texts")
    return dict(value)


def parse_time_unit(settings: Mapping[str, Any]) -> timedelta | None:
    """What the setting `times` counts from the epoch, None where times are RFC 3339; raises InvalidMapping."""
    times = settings.get("times", _RFC3339)
    if times != _RFC3339 and times not in _UNITS:
        raise InvalidMapping(f"times is one of {', '.join([_RFC3339, *_UNITS])}")
    return _UNITS.get(times)


def find(payload: object, path: Path) -> Any:
    """The value at the path, None where something on the way is null, ABSENT where it is missing."""
    value = payload
    for step in path:
        if type(value) is dict or isinstance(value, Mapping):
            value = value.get(step, ABSENT)
        elif isinstance(value, list):
            value = value[int(step)] if step.isascii() and step.isdigit() and int(step) < len(value) else ABSENT
        elif value is not None:
            return ABSENT
        if value is ABSENT or value is None:
            return value
    return value


def counted_time(value: object, unit: timedelta) -> datetime:
    """The instant that a number of units since the epoch means; raises ValueError, its text free of the value."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("a time is not the number that the mapping says it is")  # noqa: TRY004  # of the data, not of our call
    try:
        return _EPOCH + value * unit
    except OverflowError:
        raise ValueError("a time lies outside the years 1 to 9999") from None


def microseconds(instant: datetime) -> int:
    """The version that an update at that instant has: microseconds since the epoch, none before it; raises ValueError."""
    try:
        return max(0, (instant - _EPOCH) // timedelta.resolution)
    except OverflowError:
        raise ValueError("a time lies outside the years 1 to 9999") from None


def written(path: Path) -> str:
    """The path as it stands in its mapping."""
    return ".".join(path)
