"""A read model whose reconciler cannot be used: its runs say so and stop no other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from service.domain.drift import ReconciliationMode, SampleResult
from service.domain.errors import Park

__all__ = ["UnusableReconciler"]


class UnusableReconciler:
    """Stands in the place of what an installation has added and cannot be used, so that nobody takes it for compared."""

    def __init__(self, name: str, reason: str) -> None:
        self._name, self._reason = name, reason

    @property
    def read_model_name(self) -> str:
        """The name that it would have."""
        return self._name

    async def list_sample_keys(self, mode: ReconciliationMode, budget: int) -> AsyncGenerator[Sequence[str], None]:
        """Raises Park, saying why it cannot be used."""
        yield self._refused()

    async def reconcile(self, key: str) -> SampleResult | None:
        """Raises Park."""
        raise Park(self._reason)

    def _refused(self) -> Sequence[str]:
        raise Park(self._reason)
