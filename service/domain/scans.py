"""What a scan finds, and what becomes of it; pure.

    found ──► open ──► resolved     the provider finds it no more, its member has left, or the provider is no longer asked
               └──► open            found again: the same finding, seen later

A finding that was resolved stays so: what is found again later is a new one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

import orjson

from service.domain.member import MemberId

__all__ = [
    "BATCH",
    "FindingState",
    "Found",
    "InvalidProviderSettings",
    "PartState",
    "Resolution",
    "Severity",
    "Value",
    "domain_names",
    "domain_spellings",
    "provider_name",
]

# Findings, or members, in memory at a time.
BATCH: Final = 1000
_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,49}")
_PROVIDER: Final = re.compile(r"[a-z][a-z0-9_-]{0,49}")
_LONGEST_KEY: Final = 200
_LONGEST_DETAIL: Final = 4096
# A host name of two labels or more, in the letters of the DNS.
_DOMAIN: Final = re.compile(r"(?=.{4,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])")

# What a detail is made of.
Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"


class Severity(StrEnum):
    """How much a finding matters, the least first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class FindingState(StrEnum):
    """Whether somebody should look at it."""

    OPEN = "open"
    RESOLVED = "resolved"


class Resolution(StrEnum):
    """Why a finding is one no more."""

    NOT_FOUND = "not_found"
    MEMBER_LEFT = "member_left"
    PROVIDER_REMOVED = "provider_removed"


class PartState(StrEnum):
    """How one provider's part of a scan stands."""

    RUNNING = "running"
    # For another attempt of its job.
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class InvalidProviderSettings(ValueError):
    """A company's settings do not fit a provider; the text names the setting and shows no secret."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a provider says of one member; it is the same finding as long as member, kind and key are the same.

    `kind` is a word such as `duplicate_email`. `key` tells several of a kind at one member apart, such as the name of a breach.
    `detail` is a little JSON for whoever looks at it: no secret, and of the member nothing that the finding does not need.
    """

    member_id: MemberId
    kind: str
    severity: Severity
    key: str = ""
    detail: Mapping[str, Value] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind):
            raise ValueError("a finding's kind is a word in small letters")
        if len(self.key) > _LONGEST_KEY or "\0" in self.key:
            raise ValueError("a finding's key has at most 200 characters")
        if len(orjson.dumps(dict(self.detail))) > _LONGEST_DETAIL:
            raise ValueError("a finding's detail has at most 4,096 bytes of JSON")


def provider_name(text: str) -> bool:
    """Whether a provider may be called so."""
    return _PROVIDER.fullmatch(text) is not None


def domain_names(value: object, where: str) -> tuple[str, ...]:
    """Domains such as `choir.example`, each as the DNS writes it, without case and twice the same.

    Raises InvalidProviderSettings, which names the setting `where`.
    """
    if not isinstance(value, list) or not value:
        message = f"{where} must be a list of domains such as choir.example"
        raise InvalidProviderSettings(message)
    return tuple(dict.fromkeys(_domain_name(one, where) for one in value))


def domain_spellings(names: Sequence[str]) -> frozenset[str]:
    """Domains as people write them too, with the letters of their languages."""
    return frozenset(names) | {name.encode("ascii").decode("idna") for name in names}


def _domain_name(value: object, where: str) -> str:
    try:
        name = value.strip().removesuffix(".").encode("idna").decode("ascii").lower() if isinstance(value, str) else ""
        # What looks like punycode may be none, and every scan would stumble over it.
        name.encode("ascii").decode("idna")
    except UnicodeError:
        name = ""
    if not _DOMAIN.fullmatch(name):
        message = f"{where} holds what is no domain such as choir.example"
        raise InvalidProviderSettings(message)
    return name
