"""The one form in which what a source said is compared with what it said before, whichever way it came."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final

import orjson

__all__ = ["HASH_BYTES", "content_of", "hash_of", "within_calendar"]

HASH_BYTES: Final = 16
# Sources say "never" with the first and the last instant of the calendar, which the driver would write as infinities.
_FIRST: Final = datetime.min.replace(tzinfo=UTC) + timedelta.resolution
_LAST: Final = datetime.max.replace(tzinfo=UTC) - timedelta.resolution


def content_of(fields: Mapping[str, object] | None) -> bytes:
    """The normalised fields by the domain's names as JSON with sorted keys; None, of a removal, is `null`."""
    # Copied: what orjson hands out keeps the kilobyte that it was written into, which costs more than writing it did.
    return memoryview(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).tobytes()


def hash_of(content: bytes) -> bytes:
    """The `source_hash` of what `content_of` made: of the action and the member as the source gave it."""
    return blake2b(content, digest_size=HASH_BYTES).digest()


def within_calendar(instant: datetime) -> datetime:
    """The instant, or the nearest that a finite date can hold; in UTC."""
    if _FIRST.year < instant.year < _LAST.year:
        return instant
    return min(max(instant, _FIRST), _LAST)
