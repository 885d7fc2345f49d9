"""How the buckets of the outbox are shared among the relays, and how long a failure waits."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

__all__ = ["BUCKETS", "fair_share", "reconnect_delay", "retry_delay"]

# The modulus of the generated column outbox.bucket: a new number needs a migration.
BUCKETS: Final = 64

_RETRY_FIRST: Final = timedelta(seconds=1)
_RETRY_LAST: Final = timedelta(seconds=60)
_RECONNECT_FIRST: Final = timedelta(seconds=0.2)
_RECONNECT_LAST: Final = timedelta(seconds=5)


def fair_share(live: Collection[UUID], holder: UUID) -> int:
    """How many buckets `holder` owns when `live` relays run; the shares of all of them add up to BUCKETS."""
    ranks = sorted({*live, holder})
    share, rest = divmod(BUCKETS, len(ranks))
    return share + (ranks.index(holder) < rest)


def retry_delay(attempts: int, jitter: float) -> timedelta:
    """The wait after the `attempts`-th refusal of a message, 1 s to 60 s, doubling; `jitter` in [0, 1) spreads it by 20%."""
    return _backoff(_RETRY_FIRST, _RETRY_LAST, attempts, jitter)


def reconnect_delay(failures: int, jitter: float) -> timedelta:
    """The wait after the `failures`-th failed attempt to reach a service, 0.2 s to 5 s, doubling; `jitter` as in retry_delay."""
    return _backoff(_RECONNECT_FIRST, _RECONNECT_LAST, failures, jitter)


def _backoff(first: timedelta, last: timedelta, count: int, jitter: float) -> timedelta:
    # The exponent is capped before it is used: attempts are counted for as long as the row waits. The longest waits are
    # spread like the others, or what failed together would come back together.
    wait: timedelta = min(last / 1.2, first * 2.0 ** min(max(count - 1, 0), 16)) * (0.8 + 0.4 * jitter)
    return max(first, wait)
