"""Signing and verifying over raw bytes; a signature is compared as it is written, so that each has exactly one spelling."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeAlias

from service.domain.webhooks.schemes import DedupeBy, Encoding, Scheme, Secret

__all__ = ["MAX_SIGNATURES", "Cause", "Forged", "Headers", "Verdict", "Verified", "active", "dedupe_key", "sign", "verify"]

# Names in lower case and values as they came, repeats among them.
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

MAX_SIGNATURES: Final = 8
_MAX_ID: Final = 255
# Milliseconds until the year 2286; more digits are no time, and as seconds would be more than a timedelta holds.
_MAX_DIGITS: Final = 13
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Cause(StrEnum):
    """Why a webhook is not believed; for the metric and the log, never for the sender."""

    NO_SIGNATURE = "no_signature"
    MALFORMED_SIGNATURE = "malformed_signature"
    TOO_MANY_SIGNATURES = "too_many_signatures"
    REPEATED_HEADER = "repeated_header"
    NO_ID = "no_id"
    NO_TIMESTAMP = "no_timestamp"
    MALFORMED_TIMESTAMP = "malformed_timestamp"
    OUTSIDE_TOLERANCE = "outside_tolerance"
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True)
class Verified:
    """Signed by one of the secrets, recently where the scheme tells the time."""

    signed_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class Forged:
    """Not to be believed."""

    cause: Cause


Verdict: TypeAlias = Verified | Forged


class _NotGenuine(Exception):
    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


def active(secrets: Sequence[Secret], now: datetime) -> list[Secret]:
    """The secrets that still hold at `now`."""
    return [secret for secret in secrets if secret.not_after is None or now < secret.not_after]


def verify(scheme: Scheme, headers: Headers, body: bytes, secrets: Sequence[Secret], now: datetime) -> Verdict:
    """Whether one of the secrets that hold at `now` signed these bytes; total: no header raises."""
    try:
        return _verify(scheme, headers, body, active(secrets, now), now)
    except _NotGenuine as reason:
        return Forged(reason.cause)


def _verify(scheme: Scheme, headers: Headers, body: bytes, secrets: Sequence[Secret], now: datetime) -> Verified:
    header = _only(headers, scheme.signature_header)
    if not header:
        raise _NotGenuine(Cause.NO_SIGNATURE)
    items = [item.strip(b" \t") for item in header.split(scheme.separator)] if scheme.separator else [header]
    message_id = _only(headers, scheme.id_header)
    if scheme.id_header is not None and not message_id:
        raise _NotGenuine(Cause.NO_ID)
    timestamp = _timestamp(scheme, headers, items)
    candidates = [item[len(scheme.prefix) :] for item in items if item.startswith(scheme.prefix)]
    if not candidates:
        raise _NotGenuine(Cause.MALFORMED_SIGNATURE)
    if len(candidates) > MAX_SIGNATURES:
        raise _NotGenuine(Cause.TOO_MANY_SIGNATURES)
    if scheme.timed:
        _check_time(scheme, timestamp, now)
    content = scheme.signed_content(message_id=message_id, timestamp=timestamp, body=body)
    expected = [_written(scheme, secret.key, content) for secret in secrets]
    # All of them, whichever fits: how long it takes says nothing.
    if not sum([hmac.compare_digest(one, candidate) for one in expected for candidate in candidates]):
        raise _NotGenuine(Cause.MISMATCH)
    return Verified(message_id if scheme.id_header is not None else None)


def _only(headers: Headers, name: bytes | None) -> bytes:
    """The value of the header; empty where it is absent. Two of a name are two opinions about what was signed."""
    found = [value for header, value in headers if header == name] if name is not None else []
    if len(found) > 1:
        raise _NotGenuine(Cause.REPEATED_HEADER)
    return found[0] if found else b""


def _timestamp(scheme: Scheme, headers: Headers, items: Sequence[bytes]) -> bytes:
    if scheme.timestamp_item is not None:
        found = [item[len(scheme.timestamp_item) :] for item in items if item.startswith(scheme.timestamp_item)]
        if len(found) > 1:
            raise _NotGenuine(Cause.REPEATED_HEADER)
        value = found[0] if found else b""
    else:
        value = _only(headers, scheme.timestamp_header)
    if scheme.timed and not value:
        raise _NotGenuine(Cause.NO_TIMESTAMP)
    return value


def _check_time(scheme: Scheme, timestamp: bytes, now: datetime) -> None:
    # isdigit of bytes knows ASCII digits alone; int() would take signs, spaces and underscores.
    if not timestamp.isdigit() or len(timestamp) > _MAX_DIGITS:
        raise _NotGenuine(Cause.MALFORMED_TIMESTAMP)
    age = (now - _EPOCH) - int(timestamp) * scheme.timestamp_unit
    if abs(age) > scheme.tolerance:
        raise _NotGenuine(Cause.OUTSIDE_TOLERANCE)


def _written(scheme: Scheme, key: bytes, content: bytes) -> bytes:
    digest = hmac.digest(key, content, scheme.algorithm.value)
    return base64.b64encode(digest) if scheme.encoding is Encoding.BASE64 else digest.hex().encode()


def sign(scheme: Scheme, key: bytes, body: bytes, *, message_id: str, now: datetime) -> list[tuple[str, str]]:
    """The headers that a sender of this scheme puts beside `body`; `message_id` goes where the scheme has a place for it."""
    timestamp = str((now - _EPOCH) // scheme.timestamp_unit)
    content = scheme.signed_content(message_id=message_id.encode(), timestamp=timestamp.encode(), body=body)
    signature = (scheme.prefix + _written(scheme, key, content)).decode()
    headers = []
    if scheme.id_header is not None:
        headers.append((scheme.id_header.decode(), message_id))
    if scheme.timestamp_header is not None:
        headers.append((scheme.timestamp_header.decode(), timestamp))
    if scheme.timestamp_item is not None and scheme.separator is not None:
        signature = f"{scheme.timestamp_item.decode()}{timestamp}{scheme.separator.decode()}{signature}"
    headers.append((scheme.signature_header.decode(), signature))
    return headers


def dedupe_key(scheme: Scheme, verified: Verified, body: bytes, payload: Mapping[str, object]) -> str:
    """What makes a webhook the same one when it comes again, 1 to 255 characters: a signed id, else the hash of the signed body."""
    match scheme.dedupe_by:
        case DedupeBy.SIGNED_ID:
            signed_id = verified.signed_id or b""
            # An id is kept as it is where it fits the envelope; any other is as good by its hash.
            return _fit(signed_id.decode("latin-1")) or _hash(signed_id)
        case DedupeBy.BODY_ID:
            body_id = payload.get("id")
            return (_fit(body_id) if isinstance(body_id, str) else None) or _hash(body)
        case DedupeBy.BODY:
            return _hash(body)


def _fit(text: str) -> str | None:
    return text if 0 < len(text) <= _MAX_ID and text.isascii() and text.isprintable() else None


def _hash(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
