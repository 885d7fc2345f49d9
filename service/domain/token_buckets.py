"""Token buckets in memory: how many of something each key may do."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["TokenBuckets"]


class TokenBuckets:
    """A bucket per key: full at first, refilled by `per_second` up to `burst`; of more than `most` keys the oldest go."""

    def __init__(self, *, per_second: float, burst: float, most: int = 10_000) -> None:
        self._per_second, self._burst, self._most = per_second, burst, most
        # By key, the one used last at the end: tokens, and the time in seconds when they were counted.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> bool:
        """Take a token at `now`, in seconds of any clock that does not go back; False where there is none."""
        tokens, counted = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + self._per_second * (now - counted))
        taken = tokens >= 1
        self._buckets[key] = (tokens - 1 if taken else tokens, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return taken

    def give_back(self, key: str) -> None:
        """Put the token back that was taken last."""
        if key in self._buckets:
            tokens, counted = self._buckets[key]
            self._buckets[key] = (min(self._burst, tokens + 1), counted)
