"""Plans whose day has come, in a transaction of `apply_changes`: who may be changed by it, and the history of what began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import structlog

from service.actions.apply_changes import Admitted
from service.domain.change import Change, PlanChangeDue, TimePassed
from service.domain.outcome import Outcome, Result
from service.store.plan_changes import (
    ChangeType,
    NewPlanChange,
    insert_plan_changes,
    list_applied_plan_changes,
    try_lock_plan_changes,
)

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["BEGUN_BEFORE", "HELD_ELSEWHERE", "admit_due_plans", "note_begun_plans"]

HELD_ELSEWHERE: Final = Result(Outcome.STALE, "somebody else changes the member at this moment")
BEGUN_BEFORE: Final = Result(Outcome.DUPLICATE, "a plan of the member began on that day already")
# An unchanged one was the plan already: its day has come all the same.
_BEGUN: Final = frozenset({Outcome.APPLIED, Outcome.UNCHANGED})

_log: Final = structlog.get_logger(__name__)


async def admit_due_plans(tx: Tx, changes: Sequence[Change]) -> Admitted:
    """Take each member's lock for this transaction, and withhold whose plan another one changes or has changed on that day.

    The lock saves work. What keeps a plan from beginning twice is the member's row, and behind it the index of the history.
    """
    due = {change.member_id: change.due for change in changes if isinstance(change, PlanChangeDue | TimePassed) and change.due}
    if not due:
        return Admitted({})
    locked = await try_lock_plan_changes(tx, due)
    held = due.keys() - locked
    for member_id in held:
        _log.debug("plan change skipped, another instance has its lock", member=str(member_id))
    begun = await list_applied_plan_changes(tx, {member_id: due[member_id].starts_on for member_id in locked})
    return Admitted(dict.fromkeys(held, HELD_ELSEWHERE) | dict.fromkeys(begun, BEGUN_BEFORE))


async def note_begun_plans(tx: Tx, changes: Sequence[Change], results: Sequence[Result]) -> None:
    """Put the plans that began into the history, with the changes that they made."""
    rows = [
        NewPlanChange(
            member_id=change.member_id,
            change_type=ChangeType.APPLIED,
            plan=change.due.plan,
            effective_date_day=change.due.starts_on,
            expires_at=change.due.expires_at,
            actor=change.cause.actor,
            correlation_id=change.cause.correlation_id,
        )
        for change, result in zip(changes, results, strict=True)
        if isinstance(change, PlanChangeDue | TimePassed) and change.due is not None and result.outcome in _BEGUN
    ]
    if rows:
        await insert_plan_changes(tx, rows)
