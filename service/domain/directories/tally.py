"""What a reading comes to while it passes: keys that come in order are distinct, and need not be kept to be counted; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from operator import lt
from typing import TypeAlias

__all__ = ["Tally"]

_Rank: TypeAlias = tuple[int, str]


def _rank(key: str) -> _Rank:
    # Shorter ones first: so whole numbers that are written as texts stand in their order, and any order of texts will do.
    return len(key), key


@dataclass(slots=True)
class Tally:
    """The keys of a reading, page by page; `in_order` while each page lies wholly before, or wholly behind, all earlier ones."""

    keyless: int = 0
    keys: int = 0
    newest_update: datetime | None = None
    in_order: bool = True
    _least: _Rank | None = field(default=None, repr=False)
    _most: _Rank | None = field(default=None, repr=False)

    def add(self, keys: Sequence[str | None], updates: Sequence[datetime | None]) -> None:
        """Count a page: the key and the time of the update of each of its records, where it has them."""
        if dated := [update for update in updates if update is not None]:
            newest = max(dated)
            self.newest_update = newest if self.newest_update is None else max(self.newest_update, newest)
        known = [key for key in keys if key is not None]
        self.keyless += len(keys) - len(known)
        self.keys += len(known)
        if not known or not self.in_order:
            return
        ranks = [_rank(known[0]), _rank(known[-1])]
        # Of one length, as most pages are, they need not be sorted to be in order.
        if not (len(set(map(len, known))) == 1 and all(map(lt, known, known[1:]))):
            ranks = sorted(map(_rank, known))
            self.in_order = all(one != other for one, other in pairwise(ranks))
        beyond = self._least is None or self._most is None or ranks[0] > self._most or ranks[-1] < self._least
        self.in_order = self.in_order and beyond
        self._least = ranks[0] if self._least is None else min(self._least, ranks[0])
        self._most = ranks[-1] if self._most is None else max(self._most, ranks[-1])
