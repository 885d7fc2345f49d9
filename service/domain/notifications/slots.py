"""How many deliveries of which subscriber a worker sends at once, so that no subscriber takes what others need."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from service.domain.notifications.subscriber import SubscriberId

__all__ = ["Slots", "allot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """How many at once: of all, of one subscriber, and of those whose last attempts failed, together and of one."""

    most: int = 256
    each: int = 8
    failing: int = 64
    failing_each: int = 1


def allot(
    due: Mapping[SubscriberId, bool],
    busy: Mapping[SubscriberId, int],
    slots: Slots,
    busy_failing: Collection[SubscriberId] = (),
) -> dict[SubscriberId, int]:
    """How many more of each: `due` says whose last attempts failed, `busy` how many are being sent.

    `busy_failing` are those of the busy whose attempts failed when it was last known: who has nothing due is not among the `due`.

    Those that answer come first, and one more of each before another of anybody: a subscriber that takes long keeps its own slots
    and nobody else's. One that fails is asked once at a time: whether it answers again one attempt says as well as eight.
    """
    free = slots.most - sum(busy.values())
    known = {**dict.fromkeys(busy_failing, True), **due}
    free_failing = min(free, slots.failing - sum(count for one, count in busy.items() if known.get(one, False)))
    found: dict[SubscriberId, int] = {}
    for is_failing, each in ((False, slots.each), (True, slots.failing_each)):
        left = min(free - sum(found.values()), free_failing) if is_failing else free
        wanting = {one: each - busy.get(one, 0) for one, failing in due.items() if failing is is_failing}
        wanting = {one: more for one, more in wanting.items() if more > 0}
        while wanting and left > 0:
            for one in list(wanting)[:left]:
                found[one] = found.get(one, 0) + 1
                left -= 1
                wanting[one] -= 1
                if not wanting[one]:
                    del wanting[one]
    return found
