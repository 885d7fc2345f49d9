"""What a directory's record means: a connection's mapping, data only, and the member that comes out of it.

It runs once for every record of every sync, so it normalises and hashes without the contract's models: those check only what
differs from the member that is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import IntEnum
from typing import Any, Final, TypeGuard
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from service.domain.change import normalise_national_id
from service.domain.directories.record_times import instant_of
from service.domain.source_hash import content_of, hash_of, within_calendar
from service.domain.source_mapping import (
    ABSENT,
    DATES,
    MEMBER_FIELDS,
    REMOVED,
    InvalidMapping,
    Path,
    check_key,
    find,
    microseconds,
    parse_member,
    parse_path,
    parse_texts,
    parse_time_unit,
    written,
)

__all__ = [
    "DEFAULT_MAPPING",
    "DEFAULT_SETTINGS",
    "LONGEST_KEY",
    "MAX_CONTENT_BYTES",
    "DirectoryMapping",
    "FieldKind",
    "InvalidMapping",
    "MappedRecord",
    "Unmappable",
    "directory_mapping",
    "mapped_record",
    "state_of",
    "updated_at_of",
    "version_of",
]

_SETTINGS: Final = frozenset({"externalId", "version", "updatedAt", "times", "timeZone", "states", "member"})
_CONTRACT_NAMES: Final = {name: contract_name for contract_name, name in MEMBER_FIELDS.items()}
LONGEST_KEY: Final = 255
_MAX_VERSION: Final = 2**63 - 1
# Four times what the largest member that fits the contract takes: nothing larger need be compared, let alone kept.
MAX_CONTENT_BYTES: Final = 80 * 1024
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Where JSON escapes a NUL; an even number of backslashes before it is text about one.
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class FieldKind(IntEnum):
    """How a field is normalised."""

    PLAIN = 0
    NATIONAL_ID = 1
    STATE = 2
    FIRST_INSTANT = 3
    LAST_INSTANT = 4


def _only_step(path: Path) -> str | None:
    return path[0] if len(path) == 1 else None


def _kind(name: str) -> FieldKind:
    if _CONTRACT_NAMES[name] in DATES:
        return FieldKind.LAST_INSTANT if name == "expires_at" else FieldKind.FIRST_INSTANT
    return {"national_id": FieldKind.NATIONAL_ID, "state": FieldKind.STATE}.get(name, FieldKind.PLAIN)


# Looking a member of an enum up takes longer than comparing it.
_PLAIN, _NATIONAL_ID, _STATE, _LAST = FieldKind.PLAIN, FieldKind.NATIONAL_ID, FieldKind.STATE, FieldKind.LAST_INSTANT


@dataclass(frozen=True, slots=True)
class DirectoryMapping:
    """Where in a record each part of a member lies."""

    external_id: Path
    # By the domain's names.
    member: Mapping[str, Path]
    updated_at: Path | None = None
    # None: the time of the update, in microseconds, where there is one.
    version: Path | None = None
    # None: times are RFC 3339.
    time_unit: timedelta | None = None
    # Where times without an offset and dates without a time are meant; None: there are none.
    zone: tzinfo | None = None
    # The source's states by what they are written as, `true` and `1` among them.
    states: Mapping[str, str] = field(default_factory=dict)
    # `member`, made ready once: the field, its path, the path's only step where it has one, and what kind of field it is.
    steps: tuple[tuple[str, Path, str | None, FieldKind], ...] = field(init=False, repr=False, compare=False)
    # The only step to the key, where it has one.
    key_step: str | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        steps = ((name, path, _only_step(path), _kind(name)) for name, path in self.member.items())
        object.__setattr__(self, "steps", tuple(steps))
        object.__setattr__(self, "key_step", _only_step(self.external_id))

    @property
    def mapped_fields(self) -> list[str]:
        """The member fields that belong to the source, by the domain's names."""
        return sorted(self.member)

    @property
    def paths(self) -> list[Path]:
        """Everything that is looked for in a record."""
        others = (self.external_id, self.updated_at, self.version)
        return [path for path in (*others, *self.member.values()) if path is not None]


@dataclass(slots=True)
class MappedRecord:
    """A member as the source tells of it, normalised, not checked against the contract yet.

    `source_hash` is the same as that of a MEMBER_CHANGED with these fields. Not frozen: it is made a million times in a sync, and
    freezing would take a fifth of that time.
    """

    external_id: str
    # `fields` as JSON with sorted keys, of at most 80 KiB; `null` where the source says that the member has left.
    content: bytes = field(repr=False)
    source_hash: bytes = field(repr=False)
    # By the domain's names, as in UpstreamFields but unchecked; None where the source says that the member has left.
    fields: Mapping[str, object] | None = field(repr=False)
    updated_at: datetime | None = None
    version: int | None = None

    @property
    def left(self) -> bool:
        """Whether the source itself says that the member is gone."""
        return self.fields is None

    @property
    def member(self) -> dict[str, object] | None:
        """The fields by the names of MEMBER_CHANGED, for its contract to check; None where the member has left."""
        return None if self.fields is None else {_CONTRACT_NAMES[name]: value for name, value in self.fields.items()}


@dataclass(frozen=True, slots=True)
class Unmappable:
    """A record that means nothing; `reason` names the paths of the mapping, never a value. Without a key it could be anybody."""

    external_id: str | None
    reason: str


def directory_mapping(settings: Mapping[str, Any], *, nested: bool = True) -> DirectoryMapping:
    """The mapping that the settings describe; raises InvalidMapping. In flat records a path is one name, dots and all."""
    if unknown := sorted(settings.keys() - _SETTINGS):
        raise InvalidMapping(f"unknown: {', '.join(unknown)}; there are {', '.join(sorted(_SETTINGS))}")
    member = parse_member(settings)

    def path(value: object, name: str) -> Path:
        return parse_path(value, name) if nested else _column(value, name)

    def optional_path(name: str) -> Path | None:
        return None if settings.get(name) is None else path(settings[name], name)

    mapping = DirectoryMapping(
        external_id=path(settings["externalId"], "externalId"),
        member={MEMBER_FIELDS[name]: path(where, f"member.{name}") for name, where in member.items()},
        updated_at=optional_path("updatedAt"),
        version=optional_path("version"),
        time_unit=parse_time_unit(settings),
        zone=_zone(settings.get("timeZone")),
        states=parse_texts(settings.get("states", {}), "states"),
    )
    check_key(mapping.external_id, mapping.member.get("national_id"))
    return mapping


def _column(value: object, name: str) -> Path:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_KEY:
        raise InvalidMapping(f"{name} is the name of a column")
    return (value,)


def _zone(name: object) -> tzinfo | None:
    if name is None:
        return None
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)  # type: ignore[arg-type]  # what is no text is one of the errors
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise InvalidMapping("timeZone is the name of a time zone, such as Atlantic/Reykjavik") from None


# The shape of the seed: {id, kennitala, name, email}. What it does not tell of stays local.
DEFAULT_SETTINGS: Final[Mapping[str, Any]] = {
    "externalId": "id",
    "member": {"nationalId": "kennitala", "name": "name", "email": "email"},
}
DEFAULT_MAPPING: Final = directory_mapping(DEFAULT_SETTINGS)


def mapped_record(mapping: DirectoryMapping, record: Mapping[str, object]) -> MappedRecord | Unmappable:
    """The member that a record means."""
    step = mapping.key_step
    external_id = find(record, mapping.external_id) if step is None else record.get(step)
    # Keys that are numbers at their source are texts here, as in the URLs that carry them.
    if isinstance(external_id, int) and not isinstance(external_id, bool):
        external_id = str(external_id)
    if not _is_key(external_id):
        rule = f"a text of 1 to {LONGEST_KEY} characters without control characters, or a whole number"
        return Unmappable(None, f"{written(mapping.external_id)}: the key must be {rule}")
    try:
        fields = _fields(mapping, record)
        updated_at = None if mapping.updated_at is None else updated_at_of(mapping.updated_at, mapping, record)
        version = version_of(mapping, record, updated_at) if mapping.version is not None or updated_at is not None else None
        content = content_of(fields)
    except ValueError as error:
        return Unmappable(external_id, str(error))
    except TypeError:
        return Unmappable(external_id, "a field holds what JSON cannot keep")
    if len(content) > MAX_CONTENT_BYTES:
        return Unmappable(external_id, f"the mapped fields take more than {MAX_CONTENT_BYTES // 1024} KiB")
    if b"\\u0000" in content and _ESCAPED_NUL.search(content):
        return Unmappable(external_id, "a field holds a NUL character")
    return MappedRecord(external_id, content, hash_of(content), fields, updated_at, version)


def _is_key(value: object) -> TypeGuard[str]:
    # What is printable has no control characters, and that is known sooner.
    return isinstance(value, str) and 0 < len(value) <= LONGEST_KEY and (value.isprintable() or not _CONTROL.search(value))


def _fields(mapping: DirectoryMapping, record: Mapping[str, object]) -> dict[str, object] | None:
    fields: dict[str, object] = {}
    for name, path, step, kind in mapping.steps:
        value = find(record, path) if step is None else record.get(step, ABSENT)
        if kind is _PLAIN and type(value) is str and value and not value.isspace():
            fields[name] = value
            continue
        if value is ABSENT:
            continue
        if isinstance(value, str) and (not value or value.isspace()):
            # No field holds a blank; forms and exports write one for nothing.
            value = None
        if kind is _PLAIN or value is None:
            pass
        elif kind is _NATIONAL_ID:
            value = (normalise_national_id(value) or None) if isinstance(value, str) else value
        elif kind is _STATE:
            value = state_of(mapping, value)
            if value == REMOVED:
                return None
        else:
            instant = instant_of(value, path, mapping.time_unit, mapping.zone, last=kind is _LAST)
            value = value if instant is None else within_calendar(instant)
        fields[name] = value
    return fields


def state_of(mapping: DirectoryMapping, value: object) -> object:
    """The state that the source's one means, or the source's own where the mapping has no other."""
    if isinstance(value, bool):
        return mapping.states.get("true" if value else "false", value)
    return mapping.states.get(str(value), value) if isinstance(value, str | int) else value


def updated_at_of(path: Path, mapping: DirectoryMapping, record: Mapping[str, object]) -> datetime:
    """When the record changed, in UTC; raises ValueError."""
    instant = instant_of(find(record, path), path, mapping.time_unit, mapping.zone)
    if instant is None:
        raise ValueError(f"{written(path)}: must be an RFC 3339 time with its offset")
    return instant


def version_of(mapping: DirectoryMapping, record: Mapping[str, object], updated_at: datetime | None) -> int | None:
    """The version that the record has, or that the time of its update stands for; raises ValueError."""
    if mapping.version is None:
        return None if updated_at is None else microseconds(updated_at)
    value = find(record, mapping.version)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < len(str(_MAX_VERSION)):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_VERSION:
        raise ValueError(f"{written(mapping.version)}: the version must be a whole number of at most 63 bits")
    return value
