"""What happens again and again is logged once, and then at most once a minute, with how often it happened."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

__all__ = ["Seldom"]


@dataclass(slots=True)
class _Kept:
    until: float
    times: int = 0


class Seldom:
    """Decides what is due to be said, by key; of more than `most` keys the one that was said longest ago is forgotten."""

    def __init__(self, *, seconds: float = 60.0, most: int = 1000) -> None:
        self._seconds, self._most = seconds, most
        self._kept: dict[Hashable, _Kept] = {}

    def due(self, key: Hashable, now: float, times: int = 1) -> int:
        """How often it happened since it was last said, these `times` among them; 0 while it is too soon to say it again.

        `now` is in seconds, of any clock that does not go back.
        """
        kept = self._kept.get(key)
        if kept is not None and now < kept.until:
            kept.times += times
            return 0
        if kept is not None:
            times += kept.times
            del self._kept[key]
        elif len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = _Kept(now + self._seconds)
        return times
