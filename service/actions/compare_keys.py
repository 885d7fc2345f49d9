"""Compare a batch of a read model's keys; one that fails is an error of that key alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from service.actions.read_models.reconciler import BatchReconciler, ReadModelReconciler
from service.actions.running_job import StopJob
from service.domain.drift import DriftTally, SampleResult
from service.domain.errors import RollcallError, SourceUnavailable, Unavailable, said, storable
from service.store.drift_findings import DriftFinding, FindingKind

__all__ = ["Findings", "compare_keys"]

# Of each kind: more would be no list that anybody reads, and memory must not grow with the drift.
_MOST_KEPT: Final = 1000
# What the keys are compared with is away for all of them: to ask for each would take as long as its patience, a thousand times.
_NOT_OF_A_KEY: Final = (Unavailable, SourceUnavailable, StopJob)


@dataclass(slots=True)
class Findings:
    """What a run has found so far: all of it counted, the first of it kept."""

    tally: DriftTally = field(default_factory=DriftTally)
    looked_at: int = 0
    drifts: list[DriftFinding] = field(default_factory=list)
    errors: list[DriftFinding] = field(default_factory=list)

    @property
    def drifted(self) -> list[str]:
        """The keys that are out of sync."""
        return [finding.key for finding in self.drifts]

    @property
    def kept(self) -> list[DriftFinding]:
        """What is kept of both."""
        return [*self.drifts, *self.errors]

    def add(self, results: Sequence[SampleResult], errors: Sequence[DriftFinding]) -> None:
        """Count a batch."""
        drifts = [
            DriftFinding(storable(one.key), FindingKind.DRIFT, storable(one.reason or "").strip() or "it differs from its source")
            for one in results
            if not one.in_sync
        ]
        self.tally = self.tally.plus(compared=len(results), out_of_sync=len(drifts), errors=len(errors))
        self.drifts += drifts[: _MOST_KEPT - len(self.drifts)]
        self.errors += errors[: _MOST_KEPT - len(self.errors)]


async def compare_keys(reconciler: ReadModelReconciler, keys: Sequence[str], findings: Findings) -> None:
    """Compare the keys, together where the reconciler can; raises Unavailable, SourceUnavailable and StopJob."""
    findings.looked_at += len(keys)
    if isinstance(reconciler, BatchReconciler):
        await _compare_together(reconciler, keys, findings)
        return
    for key in keys:
        try:
            result = await reconciler.reconcile(key)
        except _NOT_OF_A_KEY:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this key's
            findings.add([], [_failed(key, error)])
        else:
            findings.add([] if result is None else [result], [])


async def _compare_together(reconciler: BatchReconciler, keys: Sequence[str], findings: Findings) -> None:
    """A batch that fails is halved until the culprit stands alone."""
    try:
        results = await reconciler.reconcile_many(keys)
    except _NOT_OF_A_KEY:
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, it is one key's
        if len(keys) == 1:
            findings.add([], [_failed(keys[0], error)])
            return
        middle = len(keys) // 2
        await _compare_together(reconciler, keys[:middle], findings)
        await _compare_together(reconciler, keys[middle:], findings)
    else:
        findings.add(results, [])


def _failed(key: str, error: Exception) -> DriftFinding:
    # The text of an error without a rule here may quote a member's data.
    return DriftFinding(storable(key), FindingKind.ERROR, said(error) if isinstance(error, RollcallError) else type(error).__name__)
