"""What a webhook's payload means: a connection's mapping, data only, and the change that comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from service.domain.source_mapping import (
    ABSENT,
    DATES,
    MEMBER_FIELDS,
    REMOVED,
    InvalidMapping,
    Path,
    check_key,
    counted_time,
    find,
    microseconds,
    parse_member,
    parse_optional_path,
    parse_path,
    parse_texts,
    parse_time_unit,
    written,
)

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

_ACTIONS: Final = frozenset({"upsert", "remove", "ignore"})
_SETTINGS: Final = frozenset(
    {"externalId", "action", "actions", "otherActions", "version", "updatedAt", "times", "states", "member"}
)
_DEFAULT_ACTIONS: Final = {"create": "upsert", "update": "upsert", "delete": "remove"}


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
        return sorted(MEMBER_FIELDS[name] for name in self.member)


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
    member = parse_member(settings)
    unit = parse_time_unit(settings)
    action, other = settings.get("action"), settings.get("otherActions")
    if other is not None and other not in _ACTIONS:
        raise InvalidMapping(f"otherActions is one of {', '.join(sorted(_ACTIONS))}, or absent: then they are parked")
    actions = parse_texts(settings.get("actions", _DEFAULT_ACTIONS if action is not None else {}), "actions")
    if not set(actions.values()) <= _ACTIONS:
        raise InvalidMapping(f"actions maps to {', '.join(sorted(_ACTIONS))}")
    mapping = WebhookMapping(
        external_id=parse_path(settings["externalId"], "externalId"),
        updated_at=parse_optional_path(settings, "updatedAt"),
        member={name: parse_path(path, f"member.{name}") for name, path in member.items()},
        action=parse_optional_path(settings, "action"),
        actions=actions,
        other_actions=other,
        version=parse_optional_path(settings, "version"),
        time_unit=unit,
        states=parse_texts(settings.get("states", {}), "states"),
    )
    check_key(mapping.external_id, mapping.member.get("nationalId"))
    return mapping


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
    if member is not None and member.get("state") == REMOVED:
        # Some sources say that a member has left by its state.
        action, member = "remove", None
    return Mapped(external_id, action, version, updated_at, member)


def _action(mapping: WebhookMapping, payload: Mapping[str, Any]) -> str:
    if mapping.action is None:
        return "upsert"
    value = find(payload, mapping.action)
    known = mapping.actions.get(value) if isinstance(value, str) else None
    action = known or mapping.other_actions
    if action is None:
        raise Unmappable(f"{written(mapping.action)}: an action that the mapping does not know")
    return action


def _member(mapping: WebhookMapping, payload: Mapping[str, Any]) -> dict[str, object]:
    member: dict[str, object] = {}
    for name, path in mapping.member.items():
        value = find(payload, path)
        if value is ABSENT:
            continue
        if isinstance(value, str) and not value.strip():
            # No field holds a blank; forms and exports write one for nothing.
            value = None
        if name in DATES and value is not None:
            value = _time(value, mapping.time_unit)
        if name == "state" and isinstance(value, str):
            value = mapping.states.get(value, value)
        member[name] = value
    return member


def _needed(payload: Mapping[str, Any], path: Path) -> object:
    value = find(payload, path)
    if value is ABSENT or value is None:
        raise Unmappable(f"{written(path)}: required by the mapping")
    return value


def _time(value: object, unit: timedelta | None) -> object:
    """An instant where the mapping counts times from the epoch; a text is left for the contract to read."""
    if unit is None or isinstance(value, datetime):
        return value
    try:
        return counted_time(value, unit)
    except ValueError as error:
        raise Unmappable(str(error)) from None


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
        return microseconds(instant)
    except ValueError as error:
        raise Unmappable(str(error)) from None
