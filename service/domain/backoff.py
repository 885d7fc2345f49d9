"""How long to wait after a failure: longer each time, and never as long as whoever failed at the same moment."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

__all__ = ["WHILE_AWAY", "Backoff"]

# Failures may be counted for as long as a row waits; 2**32 times any first wait is beyond every longest one.
_MOST_DOUBLINGS: Final = 32


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double with each failure in a row, from `first` to `longest`."""

    first: timedelta
    longest: timedelta

    def after(self, failures: int, jitter: Callable[[], float] = random.random) -> timedelta:
        """The wait after the `failures`-th failure in a row, counted from 1; `jitter` in [0, 1) spreads it over its upper half."""
        # The longest waits are spread like the others, or what failed together would come back together.
        most = min(self.longest, self.first * 2.0 ** min(failures, _MOST_DOUBLINGS))
        least = max(self.first, most / 2)
        return least + (most - least) * jitter()


# Between two looks whether a service that is away is back.
WHILE_AWAY: Final = Backoff(timedelta(seconds=0.1), timedelta(seconds=5))
