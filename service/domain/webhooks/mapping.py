"""What a webhook's payload means: a connection's mapping, data only, and the change that comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from service.domain.change import SOURCE_FIELDS

__all__ = [
    "DEFAULT_MAPPING",
    "Ignored",
    "InvalidMapping",
    "Mapped",
    "Unmappable",
    "WebhookMapping",
    "mapped_change",
    "webhook_mapping",
]

_UNITS: Final = {"seconds": timedelta(seconds=1), "milliseconds": timedelta(milliseconds=1)}
_RFC3339: Final = "rfc3339"
_ACTIONS: Final = frozenset({"upsert", "remove", "ignore"})
_SETTINGS: Final = frozenset(
    {"externalId", "action", "actions", "otherActions", "version", "updatedAt", "times", "states", "member"}
)
_DEFAULT_ACTIONS: Final = {"create": "upsert", "update": "upsert", "delete": "remove"}
_DATES: Final = frozenset({"startsAt", "expiresAt"})
_MOST_STEPS: Final = 10
_LONGEST_PATH: Final = 200
_REMOVED: Final = "removed"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return "".join([first, *(word.title() for word in rest)])


_MEMBER_FIELDS: Final = {_camel(name): name for name in SOURCE_FIELDS}

Path: TypeAlias = tuple[str, ...]


class InvalidMapping(ValueError):
    """The mapping does not fit; the text names the setting."""


class Unmappable(Exception):
    """The payload does not have what the mapping asks for; the text names the paths of the mapping, never a value."""


@dataclass(frozen=True, slots=True)
class WebhookMapping:
    """Where in a payload each part of a change lies: keys from the outside to the inside, numbers for places in lists."""

    external_id: Path
    updated_at: Path | None
    member: Mapping[str, Path]
    # None: every webhook is an upsert.
    action: Path | None = None
    actions: Mapping[str, str] = field(default_factory=dict)
    # What an action that is not listed means; None: nobody has decided, so the message is parked.
    other_actions: str | None = None
    # None: the time of the update, in microseconds.
    version: Path | None = None
    # None: times are RFC 3339.
    time_unit: timedelta | None = None
    states: Mapping[str, str] = field(default_factory=dict)

    @property
    def mapped_fields(self) -> list[str]:
        """The member fields that belong to the source, by the domain's names."""
        return sorted(_MEMBER_FIELDS[name] for name in self.member)


@dataclass(frozen=True, slots=True)
class Mapped:
    """A change by the names of MEMBER_CHANGED, not checked against its contract yet; `member` is None for a removal."""

    external_id: object
    action: str
    version: object
    updated_at: object
    member: Mapping[str, object] | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ignored:
    """The mapping says that webhooks of this kind mean nothing here."""


def webhook_mapping(settings: Mapping[str, Any]) -> WebhookMapping:
    """The mapping that the settings describe; raises InvalidMapping, saying which does not fit."""
    if unknown := sorted(settings.keys() - _SETTINGS):
        raise InvalidMapping(f"unknown: {', '.join(unknown)}; there are {', '.join(sorted(_SETTINGS))}")
    member = settings.get("member")
    if not isinstance(member, Mapping) or not member:
        raise InvalidMapping(f"member says where the fields of a member lie: {', '.join(sorted(_MEMBER_FIELDS))}")
    if unknown := sorted(str(name) for name in member.keys() - _MEMBER_FIELDS.keys()):
        raise InvalidMapping(f"member knows no {', '.join(unknown)}; there are {', '.join(sorted(_MEMBER_FIELDS))}")
    if "name" not in member:
        raise InvalidMapping("member.name is needed: a new member needs a name")
    times = settings.get("times", _RFC3339)
    if times != _RFC3339 and times not in _UNITS:
        raise InvalidMapping(f"times is one of {', '.join([_RFC3339, *_UNITS])}")
    action, other = settings.get("action"), settings.get("otherActions")
    if other is not None and other not in _ACTIONS:
        raise InvalidMapping(f"otherActions is one of {', '.join(sorted(_ACTIONS))}, or absent: then they are parked")
    actions = _texts(settings.get("actions", _DEFAULT_ACTIONS if action is not None else {}), "actions")
    if not set(actions.values()) <= _ACTIONS:
        raise InvalidMapping(f"actions maps to {', '.join(sorted(_ACTIONS))}")
    if settings.get("externalId") is None:
        raise InvalidMapping("externalId says where the member's key lies")
    return WebhookMapping(
        external_id=_path(settings["externalId"], "externalId"),
        updated_at=_optional_path(settings, "updatedAt"),
        member={name: _path(path, f"member.{name}") for name, path in member.items()},
        action=_optional_path(settings, "action"),
        actions=actions,
        other_actions=other,
        version=_optional_path(settings, "version"),
        time_unit=_UNITS.get(times),
        states=_texts(settings.get("states", {}), "states"),
    )


def _optional_path(settings: Mapping[str, Any], name: str) -> Path | None:
    path = settings.get(name)
    return None if path is None else _path(path, name)


def _path(value: object, name: str) -> Path:
    steps = tuple(value.split(".")) if isinstance(value, str) and len(value) <= _LONGEST_PATH else ()
    if not 0 < len(steps) <= _MOST_STEPS or not all(steps):
        raise InvalidMapping(f"{name} is a path such as data.object.id, of at most {_MOST_STEPS} steps")
    return steps


def _texts(value: object, name: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in (*value.keys(), *value.values())):
        raise InvalidMapping(f"{name} maps texts to texts")
    return dict(value)


DEFAULT_MAPPING: Final = webhook_mapping(
    {
        "externalId": "id",
        "action": "action",
        "updatedAt": "updated_at",
        "member": {
            "nationalId": "kennitala",
            "name": "name",
            "email": "email",
            "phone": "phone",
            "state": "state",
            "plan": "plan",
            "startsAt": "starts_at",
            "expiresAt": "expires_at",
            "metadata": "metadata",
        },
    }
)

_ABSENT: Final = object()


def mapped_change(mapping: WebhookMapping, payload: Mapping[str, Any], received_at: datetime) -> Mapped | Ignored:
    """The change that a payload means; raises Unmappable. Where the mapping has no `updated_at`, the time of receipt stands in."""
    action = _action(mapping, payload)
    if action == "ignore":
        return Ignored()
    updated_at: object = received_at
    if mapping.updated_at is not None:
        updated_at = _time(_needed(payload, mapping.updated_at), mapping.time_unit)
    version = _microseconds(updated_at) if mapping.version is None else _needed(payload, mapping.version)
    external_id = _needed(payload, mapping.external_id)
    # Keys that are numbers at their source are texts here, as in the URLs that carry them.
    if isinstance(external_id, int) and not isinstance(external_id, bool):
        external_id = str(external_id)
    member = _member(mapping, payload) if action == "upsert" else None
    if member is not None and member.get("state") == _REMOVED:
        # Some sources say that a member has left by its state.
        action, member = "remove", None
    return Mapped(external_id, action, version, updated_at, member)


def _action(mapping: WebhookMapping, payload: Mapping[str, Any]) -> str:
    if mapping.action is None:
        return "upsert"
    value = _found(payload, mapping.action)
    known = mapping.actions.get(value) if isinstance(value, str) else None
    action = known or mapping.other_actions
    if action is None:
        raise Unmappable(f"{_written(mapping.action)}: an action that the mapping does not know")
    return action


def _member(mapping: WebhookMapping, payload: Mapping[str, Any]) -> dict[str, object]:
    member: dict[str, object] = {}
    for name, path in mapping.member.items():
        value = _found(payload, path)
        if value is _ABSENT:
            continue
        if isinstance(value, str) and not value.strip():
            # No field holds a blank; forms and exports write one for nothing.
            value = None
        if name in _DATES and value is not None:
            value = _time(value, mapping.time_unit)
        if name == "state" and isinstance(value, str):
            value = mapping.states.get(value, value)
        member[name] = value
    return member


def _needed(payload: Mapping[str, Any], path: Path) -> object:
    value = _found(payload, path)
    if value is _ABSENT or value is None:
        raise Unmappable(f"{_written(path)}: required by the mapping")
    return value


def _found(payload: object, path: Path) -> Any:
    """The value at the path, None where something on the way is null, _ABSENT where it is missing."""
    value = payload
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(step, _ABSENT)
        elif isinstance(value, list):
            value = value[int(step)] if step.isascii() and step.isdigit() and int(step) < len(value) else _ABSENT
        elif value is not None:
            return _ABSENT
        if value is _ABSENT or value is None:
            return value
    return value


def _time(value: object, unit: timedelta | None) -> object:
    """An instant where the mapping counts times from the epoch; a text is left for the contract to read."""
    if unit is None or isinstance(value, datetime):
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unmappable("a time is not the number that the mapping says it is")
    try:
        return _EPOCH + value * unit
    except OverflowError:
        raise Unmappable("a time lies outside the years 1 to 9999") from None


def _microseconds(updated_at: object) -> int:
    instant = updated_at
    if isinstance(instant, str):
        try:
            instant = datetime.fromisoformat(instant.upper())
        except ValueError:
            instant = None
    if not isinstance(instant, datetime) or instant.tzinfo is None:
        raise Unmappable("the time of the update must be an RFC 3339 time with its offset")
    try:
        return max(0, (instant - _EPOCH) // timedelta(microseconds=1))
    except OverflowError:
        raise Unmappable("a time lies outside the years 1 to 9999") from None


def _written(path: Path) -> str:
    return ".".join(path)
