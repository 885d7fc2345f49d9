"""A delivery: one event on its way to one subscriber, and what each attempt makes of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NewType, TypeAlias, assert_never

__all__ = [
    "FAILING_FOR",
    "RETRY_DELAYS",
    "Attempt",
    "Delivered",
    "DeliveryId",
    "DeliveryState",
    "ErrorClass",
    "Failed",
    "Gone",
    "Outcome",
    "Step",
    "after",
]

DeliveryId = NewType("DeliveryId", int)

# After the first attempt, which is made at once.
RETRY_DELAYS: Final[Sequence[timedelta]] = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=10),
)
# A subscriber of whom no attempt succeeded for so long is called no more.
FAILING_FOR: Final = timedelta(hours=120)


class DeliveryState(StrEnum):
    """`waiting` for an earlier version of its member, `pending` until its next attempt, or at its end."""

    WAITING = "waiting"
    PENDING = "pending"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"


class ErrorClass(StrEnum):
    """Of what kind the failure of an attempt is."""

    STATUS = "status"
    REDIRECT = "redirect"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    # What answered does not speak HTTP, or breaks off.
    BROKEN = "broken"
    # The address leads where nobody may be called.
    REFUSED = "refused"
    NO_SECRET = "no_secret"  # noqa: S105  # says that there is none
    # The audit does not have the version any more.
    NO_EVENT = "no_event"
    # A fault of ours, which the log tells of.
    UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The subscriber has it: 2xx."""

    status: int
    response: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """It has not; `why` shows no secret, `retry_after` is how long the subscriber asks to be left alone."""

    error_class: ErrorClass
    why: str
    status: int | None = None
    retry_after: timedelta | None = None
    response: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Gone:
    """The subscriber wants nothing any more: 410."""

    response: str | None = field(default=None, repr=False)


Outcome: TypeAlias = Delivered | Failed | Gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a delivery."""

    outcome: Outcome
    started_at: datetime
    duration: timedelta


@dataclass(frozen=True, slots=True)
class Step:
    """What a delivery is next; `wait` until its next attempt, where there is one."""

    state: DeliveryState
    wait: timedelta | None = None


def after(
    outcome: Outcome,
    failures_before: int,
    delays: Sequence[timedelta] = RETRY_DELAYS,
    jitter: Callable[[], float] = random.random,
) -> Step:
    """What an attempt makes of its delivery, after so many failed ones since it was last asked for.

    Full jitter: the wait is anything up to the delay, so that what failed together does not come back together. A wait that the
    subscriber asks for is kept, but for the jitter on top: whoever comes exactly then comes with all the others.
    """
    match outcome:
        case Delivered():
            return Step(DeliveryState.DELIVERED)
        case Gone():
            return Step(DeliveryState.EXHAUSTED)
        case Failed(error_class=ErrorClass.NO_EVENT):
            return Step(DeliveryState.EXHAUSTED)
        case Failed():
            if failures_before >= len(delays):
                return Step(DeliveryState.EXHAUSTED)
            spread = delays[failures_before] * jitter()
            asked = outcome.retry_after or timedelta()
            return Step(DeliveryState.PENDING, spread if asked <= spread else asked + min(spread, asked * 0.1))
        case _:
            assert_never(outcome)
