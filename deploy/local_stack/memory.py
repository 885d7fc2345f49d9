"""Where servers may keep in memory what nobody will miss: a database is copied there in a tenth of the time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["in_memory"]

_SHARED: Final = Path("/dev/shm")  # noqa: S108  # mkdtemp makes a private one in it
# Two servers' worth: databases that come and go, and a gigabyte of write-ahead log each.
_LEAST_FREE_BYTES: Final = 6 * 1024**3


def in_memory(directory: Path = _SHARED) -> Path | None:
    """A directory in memory with room for servers' data, from which programs may be run; None where there is none."""
    try:
        room = os.statvfs(directory)
    except OSError:
        return None
    fits = room.f_bavail * room.f_frsize >= _LEAST_FREE_BYTES
    return directory if fits and not room.f_flag & os.ST_NOEXEC and os.access(directory, os.W_OK | os.X_OK) else None
