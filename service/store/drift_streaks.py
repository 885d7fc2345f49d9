"""Drift streaks: what is remembered of a read model from run to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from service.domain.drift import Streak
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["DriftStreakRow", "has_drift_streak", "lock_drift_streak", "save_drift_streak", "set_healing"]

_SQL: Final = queries("drift_streaks")


@dataclass(frozen=True, slots=True)
class DriftStreakRow:
    """A read model's streak, and whether what is out of sync is repaired."""

    breaches: int
    promoted: bool
    heals: bool

    @property
    def streak(self) -> Streak:
        """As it is judged by."""
        return Streak(self.breaches, self.promoted)


async def has_drift_streak(tx: Tx, read_model: str) -> bool:
    """Whether the read model was ever compared, or set to be healed."""
    found: bool = await tx.fetchval(_SQL["has_drift_streak"].sql, read_model)
    return found


async def lock_drift_streak(tx: Tx, read_model: str) -> DriftStreakRow:
    """The streak, made where there is none, and locked until the transaction ends."""
    await tx.execute(_SQL["insert_drift_streak"].sql, read_model)
    record = await tx.fetchrow(_SQL["lock_drift_streak"].sql, read_model)
    if record is None:
        raise RuntimeError("a streak is never deleted")
    return DriftStreakRow(**record)


async def save_drift_streak(tx: Tx, read_model: str, streak: Streak) -> None:
    """Keep the streak after a run; the caller has locked it."""
    await tx.execute(_SQL["save_drift_streak"].sql, read_model, streak.breaches, streak.promoted)


async def set_healing(tx: Tx, read_model: str, *, heals: bool) -> None:
    """Switch on or off whether what is out of sync is repaired."""
    await tx.execute(_SQL["set_healing"].sql, read_model, heals)
