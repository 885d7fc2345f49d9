"""What a relay knows of the outbox: the buckets it owns, the keys with work, the keys in flight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

__all__ = ["Backlog", "Bucket", "Key"]


@dataclass(slots=True)
class Bucket:
    """An owned bucket; `held_until` is in seconds of the monotonic clock and never later than the lease in the database."""

    number: int
    fence: int
    held_until: float
    # Rows up to here were seen. It only discovers: rows that commit late lie below it and are found by the sweep.
    watermark: int = 0
    more: bool = True
    shedding: bool = False


@dataclass(slots=True)
class Key:
    """An order key with work: its highest row seen, and the last row sent, after which its lowest is looked for."""

    order_key: UUID
    bucket: int
    last: int
    # A hot key leaves thousands of dead index entries behind; starting after them keeps each claim cheap.
    floor: int


class Backlog:
    """Bounded bookkeeping of one relay: a key is ready, in flight or unknown, never two of these."""

    def __init__(self, ready_limit: int) -> None:
        self._ready_limit = ready_limit
        self._ready: dict[UUID, Key] = {}
        self._in_flight: dict[UUID, Key] = {}
        self.buckets: dict[int, Bucket] = {}

    @property
    def room(self) -> int:
        """How many more keys may become ready."""
        return max(0, self._ready_limit - len(self._ready))

    @property
    def ready(self) -> int:
        """How many keys wait to be claimed."""
        return len(self._ready)

    @property
    def known(self) -> int:
        """How many keys are ready or in flight."""
        return len(self._ready) + len(self._in_flight)

    def is_busy(self, number: int) -> bool:
        """Whether a message of this bucket is in flight."""
        return any(key.bucket == number for key in self._in_flight.values())

    def hold(self, number: int, fence: int, held_until: float) -> None:
        """Own a bucket from now on, or for longer."""
        bucket = self.buckets.get(number)
        if bucket is None or bucket.fence != fence:
            self.lose(number)
            self.buckets[number] = Bucket(number, fence, held_until)
        else:
            bucket.held_until = held_until

    def lose(self, number: int) -> None:
        """Forget a bucket and its ready keys; what is in flight ends by itself."""
        self.buckets.pop(number, None)
        self._drop_ready(number)

    def shed(self, number: int) -> None:
        """Claim nothing more of a bucket, so that it can be released when nothing of it is in flight."""
        bucket = self.buckets[number]
        bucket.shedding = True
        bucket.watermark, bucket.more = 0, True
        self._drop_ready(number)

    def keep(self, number: int) -> None:
        """Take back a bucket that was to be shed."""
        self.buckets[number].shedding = False

    def mark_unread(self) -> None:
        """Let the next discovery look at every bucket: something was committed, nobody says where."""
        for bucket in self.buckets.values():
            bucket.more = True

    def unread(self) -> list[Bucket]:
        """The buckets in which discovery may find rows above the watermark."""
        return [bucket for bucket in self.buckets.values() if bucket.more and not bucket.shedding]

    def swept(self) -> list[Bucket]:
        """The buckets that have rows below their watermark to look through."""
        return [bucket for bucket in self.buckets.values() if bucket.watermark and not bucket.shedding]

    def find(self, number: int, order_key: UUID, first: int, last: int) -> None:
        """Take note of rows `first` to `last` of a key; of a bucket that is no longer owned, nothing."""
        bucket = self.buckets.get(number)
        if bucket is None or bucket.shedding:
            return
        key = self._in_flight.get(order_key) or self._ready.get(order_key)
        if key is None:
            # Found by a high row, it may have a lower one that committed late: only what was sent raises the floor.
            self._ready[order_key] = Key(order_key, number, last, floor=0)
        else:
            key.last = max(key.last, last)
            key.floor = min(key.floor, first - 1)

    def take(self, limit: int, now: float) -> list[Key]:
        """Up to `limit` ready keys whose leases hold at `now`, the longest waiting first; they are in flight from here on."""
        taken: list[Key] = []
        for key in self._ready.values():
            if self.holds(key, now):
                taken.append(key)
                if len(taken) == limit:
                    break
        for key in taken:
            del self._ready[key.order_key]
            self._in_flight[key.order_key] = key
        return taken

    def holds(self, key: Key, now: float) -> bool:
        """Whether the lease of the key's bucket cannot have lapsed at `now`."""
        bucket = self.buckets.get(key.bucket)
        return bucket is not None and now < bucket.held_until

    def published(self, key: Key, row: int) -> None:
        """Row `row` of the key is out and deleted: the key goes to the back of the queue when it has more, else it is forgotten."""
        del self._in_flight[key.order_key]
        bucket = self.buckets.get(key.bucket)
        if key.last > row and bucket is not None and not bucket.shedding:
            key.floor = row
            self._ready[key.order_key] = key

    def forget(self, key: Key) -> None:
        """Nothing of the key can be published now; the sweep finds it again when something can."""
        del self._in_flight[key.order_key]

    def put_back(self, keys: Iterable[Key]) -> None:
        """The keys' rows did not get out and are to be tried again, before all others."""
        returned: dict[UUID, Key] = {}
        for key in keys:
            del self._in_flight[key.order_key]
            bucket = self.buckets.get(key.bucket)
            if bucket is not None and not bucket.shedding:
                returned[key.order_key] = key
        self._ready = returned | self._ready

    def _drop_ready(self, number: int) -> None:
        self._ready = {order_key: key for order_key, key in self._ready.items() if key.bucket != number}
