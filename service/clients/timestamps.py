"""AMQP timestamps as producers really send them: one out of range must not end the connection, and with it its neighbours."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

from pamqp import decode

__all__ = ["read_any_timestamp"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECONDS = 0xFFFFFFFF  # 2106
_UNITS_PER_SECOND = (1, 10**3, 10**6, 10**9)


def read_any_timestamp() -> None:
    """Let the client library decode every timestamp, in properties and in headers; safe to repeat.

    Its own decoder raises on one in micro- or nanoseconds, inside the reader of the connection: the connection ends, the broker
    hands out again what was in flight, and so on until its delivery limit parks healthy messages with the bad one.
    """
    decode.METHODS["timestamp"] = _timestamp
    decode.TABLE_MAPPING[b"T"] = _timestamp


def _timestamp(value: bytes) -> tuple[int, datetime]:
    """Seconds since the epoch, or in the unit that makes sense of the number; what makes none is the epoch itself."""
    (number,) = struct.unpack(">Q", value[:8])
    for units in _UNITS_PER_SECOND:
        if number // units <= _LAST_SECONDS:
            return 8, datetime.fromtimestamp(number / units, tz=UTC)
    return 8, _EPOCH
