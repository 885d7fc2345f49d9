"""What is counted with: plain numbers of one event loop, exposed by the library, whose own take a lock and several times as long.

Each has an off form that counts nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from service.telemetry.metric_names import Metric

__all__ = ["Counter", "Gauge", "Histogram"]


class Counter:
    """Counts events by the values of its labels."""

    def __init__(self, metric: Metric, *, on: bool) -> None:
        self._metric = metric
        self._on = on
        self._counts: dict[tuple[str, ...], float] = dict.fromkeys(metric.values if metric.labels else ((),), 0.0)

    def add(self, *labels: str, times: int = 1) -> None:
        """Count `times` more."""
        if self._on:
            self._counts[labels] = self._counts.get(labels, 0.0) + times

    @property
    def counts(self) -> Mapping[tuple[str, ...], float]:
        """What was counted, by the values of the labels."""
        return self._counts

    def family(self) -> Family:
        """As the library exposes it."""
        family = CounterMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        return family


class Gauge:
    """Holds what was last seen, by the values of its labels; what nobody has seen is not there."""

    def __init__(self, metric: Metric, *, on: bool) -> None:
        self._metric = metric
        self._on = on
        self._levels: dict[tuple[str, ...], float] = {}

    def set(self, *labels: str, to: float) -> None:
        """Put down what was seen."""
        if self._on:
            self._levels[labels] = to

    def clear(self) -> None:
        """Nobody can see it now."""
        self._levels.clear()

    @property
    def levels(self) -> Mapping[tuple[str, ...], float]:
        """What was seen, by the values of the labels."""
        return self._levels

    def family(self) -> Family:
        """As the library exposes it."""
        family = GaugeMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)
        for labels, level in self._levels.items():
            family.add_metric(labels, level)
        return family


class _Distribution:
    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0


class Histogram:
    """Counts observations by the least upper bound that they do not exceed."""

    def __init__(self, metric: Metric, *, on: bool) -> None:
        self._metric = metric
        self._on = on
        self._bounds: Final = metric.buckets
        self._distributions: dict[tuple[str, ...], _Distribution] = {}
        for labels in metric.values if metric.labels else ((),):
            self._of(labels)

    def observe(self, value: float, *labels: str) -> None:
        """Count one observation."""
        if self._on:
            distribution = self._distributions.get(labels) or self._of(labels)
            distribution.counts[bisect_left(self._bounds, value)] += 1
            distribution.total += value

    def observe_all(self, values: Sequence[float], *labels: str) -> None:
        """Count many, as one would each."""
        if self._on:
            distribution = self._distributions.get(labels) or self._of(labels)
            bounds, counts = self._bounds, distribution.counts
            for value in values:
                counts[bisect_left(bounds, value)] += 1
            distribution.total += sum(values)

    @property
    def counts(self) -> Mapping[tuple[str, ...], float]:
        """How many observations there were, by the values of the labels."""
        return {labels: sum(distribution.counts) for labels, distribution in self._distributions.items()}

    def family(self) -> Family:
        """As the library exposes it."""
        family = HistogramMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for labels, distribution in self._distributions.items():
            family.add_metric(labels, _cumulative(bounds, distribution.counts), distribution.total)
        return family

    def _of(self, labels: tuple[str, ...]) -> _Distribution:
        return self._distributions.setdefault(labels, _Distribution(len(self._bounds) + 1))


def _cumulative(bounds: Sequence[str], counts: Sequence[int]) -> list[tuple[str, float]]:
    return list(zip(bounds, accumulate(counts), strict=True))
