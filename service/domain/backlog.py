"""What a relay knows of the outbox: the buckets it owns, the keys with work, the keys to be retried, the keys in flight."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

__all__ = ["Backlog", "Bucket", "Key"]

# Of a window, while there is other work to fill it, retries get the fourth part.
_RETRY_SHARE: Final = 4
# One retry in so many has to get through for more of them to be worth their cost.
_WORTHWHILE: Final = 8


@dataclass(slots=True)
class Bucket:
    """An owned bucket; `held_until` is in seconds of the monotonic clock and never later than the lease in the database."""

    number: int
    fence: int
    held_until: float
    # Rows up to here were seen. It only discovers: rows that commit late lie below it and are found by the sweep.
    watermark: int = 0
    more: bool = True
    # How far the sweep's round has come, and whether it is through with this bucket.
    swept: int = 0
    is_swept: bool = False
    shedding: bool = False


@dataclass(slots=True)
class Key:
    """An order key with work: its highest row seen, and the last row sent, after which its lowest is looked for."""

    order_key: UUID
    bucket: int
    last: int
    # A hot key leaves thousands of dead index entries behind; starting after them keeps each claim cheap.
    floor: int
    # Its lowest row was refused, and its wait is over.
    is_retry: bool = False


class Backlog:
    """Bounded bookkeeping of one relay: a key is ready, to be retried, in flight or unknown, never two of these.

    At most `ready_limit` keys are ready. At most `retry_allowance` are to be retried: `retries` while the broker goes on
    refusing them, up to half of `ready_limit` while it takes them.
    """

    def __init__(self, ready_limit: int, retries: int = 128) -> None:
        self._ready_limit = ready_limit
        self._fewest_retries = min(retries, max(1, ready_limit // 2))
        self.retry_allowance = self._fewest_retries
        self._ready: dict[UUID, Key] = {}
        self._retries: dict[UUID, Key] = {}
        self._in_flight: dict[UUID, Key] = {}
        self.buckets: dict[int, Bucket] = {}

    @property
    def room(self) -> int:
        """How many more keys may become ready."""
        return max(0, self._ready_limit - len(self._ready))

    @property
    def retry_room(self) -> int:
        """How many more keys may wait for a retry."""
        return max(0, self.retry_allowance - len(self._retries))

    @property
    def retrying(self) -> int:
        """How many keys may be among those whose refused row is due: they wait for a retry or are in flight."""
        return len(self._retries) + len(self._in_flight)

    @property
    def retries_pay(self) -> bool:
        """Whether the broker takes what it refused before."""
        return self.retry_allowance > self._fewest_retries

    @property
    def ready(self) -> int:
        """How many keys wait to be claimed."""
        return len(self._ready) + len(self._retries)

    @property
    def known(self) -> int:
        """How many keys wait or are in flight."""
        return self.ready + len(self._in_flight)

    def knows(self, order_key: UUID) -> bool:
        """Whether the key waits or is in flight."""
        return self._known(order_key) is not None

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
        bucket.swept, bucket.is_swept = 0, False
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

    def read(self) -> list[Bucket]:
        """The buckets in which rows may lie below the watermark."""
        return [bucket for bucket in self.buckets.values() if bucket.watermark and not bucket.shedding]

    def unswept(self) -> list[Bucket]:
        """The buckets that the sweep's round is not through with; a new round when it is through with all."""
        buckets = self.read()
        if all(bucket.is_swept for bucket in buckets):
            for bucket in buckets:
                bucket.swept, bucket.is_swept = 0, False
        return [bucket for bucket in buckets if not bucket.is_swept]

    def find(self, number: int, order_key: UUID, first: int, last: int) -> None:
        """Take note of rows `first` to `last` of a key; of a bucket that is no longer owned, nothing."""
        bucket = self.buckets.get(number)
        if bucket is None or bucket.shedding:
            return
        key = self._known(order_key)
        if key is None:
            # Found by a high row, it may have a lower one that committed late: only what was sent raises the floor.
            self._ready[order_key] = Key(order_key, number, last, floor=0)
        else:
            key.last = max(key.last, last)
            key.floor = min(key.floor, first - 1)

    def retry(self, number: int, order_key: UUID, last: int) -> bool:
        """Take note of a key whose refused row is due, `last` being its highest row; whether it is news and there was room."""
        bucket = self.buckets.get(number)
        if bucket is None or bucket.shedding:
            return False
        key = self._known(order_key)
        if key is not None:
            key.last = max(key.last, last)
            return False
        if not self.retry_room:
            return False
        self._retries[order_key] = Key(order_key, number, last, floor=0, is_retry=True)
        return True

    def count_retries(self, confirmed: int, refused: int) -> None:
        """Allow twice the retries when enough of the last ones got through, half of them when not, or when none was due."""
        if confirmed * _WORTHWHILE > refused:
            self.retry_allowance = min(max(self._fewest_retries, self._ready_limit // 2), self.retry_allowance * 2)
        else:
            self.retry_allowance = max(self._fewest_retries, self.retry_allowance // 2)

    def take(self, limit: int, now: float) -> list[Key]:
        """Up to `limit` keys whose leases hold at `now`, the longest waiting first; they are in flight from here on.

        Retries get a fourth of it, and more only where too few other keys are ready.
        """
        ready = self._held(self._ready, limit, now)
        retries = self._held(self._retries, limit, now)
        share = min(len(retries), max(limit // _RETRY_SHARE, limit - len(ready)))
        taken = [*ready[: limit - share], *retries[:share]]
        for key in taken:
            del (self._retries if key.is_retry else self._ready)[key.order_key]
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
            key.floor, key.is_retry = row, False
            self._ready[key.order_key] = key

    def forget(self, key: Key) -> None:
        """Nothing of the key can be published now; it is found again when something can."""
        del self._in_flight[key.order_key]

    def put_back(self, keys: Iterable[Key]) -> None:
        """The keys' rows did not get out and are to be tried again, before all others."""
        ready: dict[UUID, Key] = {}
        retries: dict[UUID, Key] = {}
        for key in keys:
            del self._in_flight[key.order_key]
            bucket = self.buckets.get(key.bucket)
            if bucket is not None and not bucket.shedding:
                (retries if key.is_retry else ready)[key.order_key] = key
        self._ready = ready | self._ready
        self._retries = retries | self._retries

    def _known(self, order_key: UUID) -> Key | None:
        return self._in_flight.get(order_key) or self._ready.get(order_key) or self._retries.get(order_key)

    def _held(self, waiting: dict[UUID, Key], limit: int, now: float) -> list[Key]:
        return list(islice((key for key in waiting.values() if self.holds(key, now)), limit))

    def _drop_ready(self, number: int) -> None:
        self._ready = {order_key: key for order_key, key in self._ready.items() if key.bucket != number}
        self._retries = {order_key: key for order_key, key in self._retries.items() if key.bucket != number}
