"""What compares a read model with its source: the one thing to write for a read model of one's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from service.domain.change import Cause, Change
from service.domain.drift import ReconciliationMode, SampleResult

__all__ = ["BatchReconciler", "HealingReconciler", "ReadModelReconciler", "Registry"]


class ReadModelReconciler(Protocol):
    """Compares single keys, read-only: drift is a result, never an exception. What is raised for a key is an error of that key."""

    @property
    def read_model_name(self) -> str:
        """Its name, which stays: streaks are kept by it. What stands before a colon in it is the label of its metrics."""
        ...

    def list_sample_keys(self, mode: ReconciliationMode, budget: int) -> AsyncGenerator[Sequence[str], None]:
        """The keys to look at, in batches of at most `budget`, each key once: all of them, or a sample of `sample_size` of them.

        A generator, closed by whoever iterates. The budget caps memory, not coverage.
        """
        ...

    async def reconcile(self, key: str) -> SampleResult | None:
        """Compare one key; None where there is nothing to compare any more."""
        ...


@runtime_checkable
class BatchReconciler(Protocol):
    """A reconciler that compares many keys at once, for which a million of them are not a million questions."""

    async def reconcile_many(self, keys: Sequence[str]) -> Sequence[SampleResult]:
        """Compare keys of one batch; those that are gone are missing from the answer."""
        ...


@runtime_checkable
class HealingReconciler(Protocol):
    """A reconciler whose read model is members, which the one apply path can repair."""

    async def repairs(self, keys: Sequence[str], cause: Cause) -> Sequence[Change]:
        """The changes that bring these keys back in step; where it cannot be said what is right, none."""
        ...


# A plain sequence; an empty one makes every run a no-op.
Registry: TypeAlias = Sequence[ReadModelReconciler]
