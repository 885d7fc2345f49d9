"""The one form in which what a source said is compared with what it said before, whichever way it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import chain
from typing import Final

import orjson

__all__ = ["HASH_BYTES", "content_of", "contents_of", "hash_of", "hashes_of", "within_calendar"]

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


def contents_of(columns: Mapping[str, Sequence[object]]) -> list[bytes]:
    """`content_of` each row of columns, of which there is one at least: written as one text, for no row is worth a call."""
    fields: list[str] = []
    values: list[Sequence[object]] = []
    for name, column in sorted(columns.items()):
        if (written := _without_escapes(column)) is not None:
            fields.append(f'"{name}":"%s"')
            values.append(written)
        else:
            fields.append(f'"{name}":%s')
            # Each within something, as in its record: orjson nests no deeper than it says.
            values.append([orjson.dumps([value], option=orjson.OPT_SORT_KEYS)[1:-1].decode() for value in column])
    row = f"{{{','.join(fields)}}}"
    # JSON writes a line feed as an escape.
    rows = "\n".join([row] * len(values[0])) % tuple(chain.from_iterable(zip(*values, strict=True)))
    return rows.encode().split(b"\n")


def _without_escapes(column: Sequence[object]) -> Sequence[str] | None:
    """The column where all of it are texts that JSON writes as they are."""
    try:
        joined = "".join(column)  # type: ignore[arg-type]  # what is no text is one of the errors
    except TypeError:
        return None
    escaped = '"' in joined or "\\" in joined or not joined.isprintable()
    return None if escaped else column  # type: ignore[return-value]  # texts, or they could not have been joined


def hashes_of(contents: Sequence[bytes]) -> list[bytes]:
    """`hash_of` each."""
    return [blake2b(content, digest_size=HASH_BYTES).digest() for content in contents]


def within_calendar(instant: datetime) -> datetime:
    """The instant, or the nearest that a finite date can hold; in UTC."""
    if _FIRST.year < instant.year < _LAST.year:
        return instant
    return min(max(instant, _FIRST), _LAST)
