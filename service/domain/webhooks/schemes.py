"""How senders sign: one row per scheme, data only; the verifier and the signer read the same rows."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

__all__ = [
    "PRESETS",
    "Algorithm",
    "DedupeBy",
    "Encoding",
    "InvalidScheme",
    "Scheme",
    "SchemeName",
    "Secret",
    "hmac_scheme",
    "scheme",
]


class SchemeName(StrEnum):
    """What a connection's sender signs by."""

    STANDARD_WEBHOOKS = "standard-webhooks"
    GITHUB = "github"
    SHOPIFY = "shopify"
    STRIPE = "stripe"
    WORKOS = "workos"
    HMAC = "hmac"


class Algorithm(StrEnum):
    """The hash under the HMAC."""

    SHA256 = "sha256"
    SHA512 = "sha512"
    SHA1 = "sha1"


class Encoding(StrEnum):
    """How a signature is written; hex is lower case, base64 has its padding."""

    HEX = "hex"
    BASE64 = "base64"


class DedupeBy(StrEnum):
    """What makes a webhook the same webhook: only what the signature covers."""

    SIGNED_ID = "signed_id"
    BODY_ID = "body_id"
    BODY = "body"


class InvalidScheme(ValueError):
    """The description of a scheme or a secret does not fit; the text names what, never a secret."""


@dataclass(frozen=True, slots=True)
class Secret:
    """The bytes that sign, until `not_after` (aware) where that is set."""

    key: bytes = field(repr=False)
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One way of signing; header names are lower case.

    A signature header holds items; those that begin with `prefix` are signatures, the one that begins with `timestamp_item` is the
    timestamp, where no header of its own carries it.
    """

    name: SchemeName
    signature_header: bytes
    prefix: bytes = b""
    separator: bytes | None = None
    algorithm: Algorithm = Algorithm.SHA256
    encoding: Encoding = Encoding.HEX
    # What is signed, with the places {id}, {timestamp} and {body}.
    content: str = "{body}"
    id_header: bytes | None = None
    timestamp_header: bytes | None = None
    timestamp_item: bytes | None = None
    timestamp_unit: timedelta = timedelta(seconds=1)
    tolerance: timedelta = timedelta(minutes=5)
    dedupe_by: DedupeBy = DedupeBy.BODY
    # Standard Webhooks writes its keys in base64; everybody else signs with the text itself.
    base64_secret: bool = False
    # Around each place of `content`, filled in from it: what is joined with the values is fixed once.
    parts: tuple[str | bytes, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", _parts(self.content))

    @property
    def timed(self) -> bool:
        """Whether the signature covers a time, so that an old webhook can be told from a new one."""
        return self.timestamp_header is not None or self.timestamp_item is not None

    def signed_content(self, *, message_id: bytes, timestamp: bytes, body: bytes) -> bytes:
        """The bytes that the signature covers."""
        values = {"{id}": message_id, "{timestamp}": timestamp, "{body}": body}
        return b"".join([part if isinstance(part, bytes) else values[part] for part in self.parts])

    def key(self, secret: str) -> bytes:
        """The key of a secret as its owner writes it; raises InvalidScheme."""
        if not self.base64_secret:
            return secret.encode()
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not key:
            raise InvalidScheme(f"a secret of {self.name} is base64, with whsec_ before it or without")
        return key


_PLACE: Final = re.compile(r"(\{[a-z]*\})")
_PLACES: Final = frozenset({"{id}", "{timestamp}", "{body}"})
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_PREFIX: Final = re.compile(r"[!-~]{0,40}")
_SETTINGS: Final = frozenset(
    {"header", "algorithm", "encoding", "content", "prefix", "idHeader", "timestampHeader", "timestampUnit", "separator"}
)
_UNITS: Final = {"seconds": timedelta(seconds=1), "milliseconds": timedelta(milliseconds=1)}
_SEPARATORS: Final = frozenset({",", ";", " "})


def _parts(content: str) -> tuple[str | bytes, ...]:
    found = [part for part in _PLACE.split(content) if part]
    places = [part for part in found if _PLACE.fullmatch(part)]
    if not content.isascii() or not content.isprintable():
        raise InvalidScheme("content is visible ASCII characters")
    if not set(places) <= _PLACES or places.count("{body}") != 1 or len(set(places)) != len(places):
        raise InvalidScheme("content holds {body} once, and {id} and {timestamp} at most once")
    return tuple(part if part in _PLACES else part.encode() for part in found)


PRESETS: Final[Mapping[SchemeName, Scheme]] = {
    preset.name: preset
    for preset in (
        Scheme(
            name=SchemeName.STANDARD_WEBHOOKS,
            signature_header=b"webhook-signature",
            prefix=b"v1,",
            separator=b" ",
            encoding=Encoding.BASE64,
            content="{id}.{timestamp}.{body}",
            id_header=b"webhook-id",
            timestamp_header=b"webhook-timestamp",
            dedupe_by=DedupeBy.SIGNED_ID,
            base64_secret=True,
        ),
        Scheme(name=SchemeName.GITHUB, signature_header=b"x-hub-signature-256", prefix=b"sha256="),
        Scheme(name=SchemeName.SHOPIFY, signature_header=b"x-shopify-hmac-sha256", encoding=Encoding.BASE64),
        Scheme(
            name=SchemeName.STRIPE,
            signature_header=b"stripe-signature",
            prefix=b"v1=",
            separator=b",",
            content="{timestamp}.{body}",
            timestamp_item=b"t=",
            dedupe_by=DedupeBy.BODY_ID,
        ),
        Scheme(
            name=SchemeName.WORKOS,
            signature_header=b"workos-signature",
            prefix=b"v1=",
            separator=b",",
            content="{timestamp}.{body}",
            timestamp_item=b"t=",
            timestamp_unit=timedelta(milliseconds=1),
            dedupe_by=DedupeBy.BODY_ID,
        ),
    )
}


def scheme(name: SchemeName, settings: Mapping[str, object]) -> Scheme:
    """A preset, or the `hmac` that the settings describe; raises InvalidScheme."""
    if name is SchemeName.HMAC:
        return hmac_scheme(settings)
    if settings:
        raise InvalidScheme(f"{name} is fixed and takes no settings")
    return PRESETS[name]


def hmac_scheme(settings: Mapping[str, object]) -> Scheme:
    """The scheme that a sender's documentation describes; raises InvalidScheme, saying which setting does not fit."""
    if unknown := sorted(settings.keys() - _SETTINGS):
        raise InvalidScheme(f"unknown: {', '.join(unknown)}; there are {', '.join(sorted(_SETTINGS))}")
    given = {name: value for name, value in settings.items() if isinstance(value, str)}
    if given.keys() != settings.keys():
        raise InvalidScheme("every setting is a text")
    content = given.get("content", "{body}")
    id_header, timestamp_header = (_header(given, name, required=False) for name in ("idHeader", "timestampHeader"))
    for place, header in (("{id}", id_header), ("{timestamp}", timestamp_header)):
        # What is not signed says nothing, and a place without its header could not be filled.
        if (place in content) is not (header is not None):
            raise InvalidScheme(f"content holds {place} exactly where a header carries it")
    prefix, separator = given.get("prefix", ""), given.get("separator")
    if not _PREFIX.fullmatch(prefix):
        raise InvalidScheme("prefix is at most 40 visible ASCII characters")
    if separator is not None and separator not in _SEPARATORS:
        raise InvalidScheme("separator is a comma, a semicolon or a space")
    return Scheme(
        name=SchemeName.HMAC,
        signature_header=_header(given, "header", required=True) or b"",
        prefix=prefix.encode(),
        separator=separator.encode() if separator else None,
        algorithm=Algorithm(_one_of(given, "algorithm", [one.value for one in Algorithm], Algorithm.SHA256.value)),
        encoding=Encoding(_one_of(given, "encoding", [one.value for one in Encoding], Encoding.HEX.value)),
        content=content,
        id_header=id_header,
        timestamp_header=timestamp_header,
        timestamp_unit=_UNITS[_one_of(given, "timestampUnit", list(_UNITS), "seconds")],
        dedupe_by=DedupeBy.SIGNED_ID if id_header else DedupeBy.BODY,
    )


def _header(given: Mapping[str, str], name: str, *, required: bool) -> bytes | None:
    value = given.get(name)
    if value is None and not required:
        return None
    if value is None or not _HEADER.fullmatch(value):
        raise InvalidScheme(f"{name} is the name of an HTTP header")
    return value.lower().encode()


def _one_of(given: Mapping[str, str], name: str, allowed: list[str], default: str) -> str:
    value = given.get(name, default)
    if value not in allowed:
        raise InvalidScheme(f"{name} is one of {', '.join(allowed)}")
    return value
