"""What a process counts and measures, said in its own words, and how it is exposed to Prometheus."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from service.telemetry import metric_names as names
from service.telemetry.instruments import Counter, Gauge, Histogram
from service.telemetry.metric_names import Metric, Stage

__all__ = ["UNMEASURED", "Metrics"]

T = TypeVar("T", Counter, Gauge, Histogram)

_OPENMETRICS: Final = "application/openmetrics-text"
_OPENMETRICS_VERSION: Final = "1.0.0"


class Metrics(Collector):
    """One process's metrics, in a registry of its own; a stage that is not among `stages` counts nothing and exposes nothing."""

    def __init__(self, stages: Collection[Stage]) -> None:
        self._stages = frozenset(stages)
        self._instruments: dict[str, Counter | Gauge | Histogram] = {}
        self._build = self._gauge(names.BUILD_INFO)
        self._roles = self._gauge(names.ROLE_INFO)
        self._dependencies = self._gauge(names.DEPENDENCY_UP)
        self._webhooks = self._histogram(names.WEBHOOK_DURATION)
        self._refused = self._counter(names.WEBHOOKS_REFUSED)
        self._admin = self._histogram(names.ADMIN_DURATION)
        self._messages = self._histogram(names.MESSAGE_DURATION)
        self._changes = self._counter(names.CHANGES)
        self._batches = self._histogram(names.APPLY_BATCH_SIZE)
        self._applying = self._histogram(names.APPLY_DURATION)
        self._contention = self._counter(names.APPLY_RETRIES)
        self._splits = self._counter(names.APPLY_SPLITS)
        self._jobs = self._histogram(names.JOB_DURATION)
        self._running = self._gauge(names.JOBS_RUNNING)
        self._handed_on = self._counter(names.JOBS_HANDED_ON)
        self._compared = self._counter(names.DRIFT_SAMPLES)
        self._drifted = self._counter(names.DRIFT_FOUND)
        self._breaches = self._counter(names.DRIFT_BREACHES)
        self._promotions = self._counter(names.DRIFT_PROMOTIONS)
        self._reconciled = self._histogram(names.DRIFT_DURATION)
        self._notified = self._histogram(names.NOTIFICATION_DURATION)
        self._notifications_ended = self._counter(names.NOTIFICATIONS_ENDED)
        self._disabled = self._counter(names.SUBSCRIBERS_DISABLED)
        self._scan_parts = self._histogram(names.SCAN_PARTS)
        self._scan_findings = self._counter(names.SCAN_FINDINGS)
        self._events = self._counter(names.RELAY_EVENTS)
        self._windows = self._histogram(names.RELAY_WINDOW_SIZE)
        self._window_parts = self._histogram(names.RELAY_WINDOW_DURATION)
        self._delays = self._histogram(names.RELAY_DELAY)
        self._buckets = self._gauge(names.RELAY_BUCKETS)
        self._leases = self._counter(names.RELAY_LEASES)
        self._outbox = [self._gauge(metric) for metric in (names.OUTBOX_MESSAGES, names.OUTBOX_AGE, names.OUTBOX_BLOCKED)]
        self._ownership = [self._gauge(metric) for metric in (names.LEASES_RELAYS, names.LEASES_UNOWNED)]
        self._notifications = [
            self._gauge(metric) for metric in (names.NOTIFICATIONS_WAITING, names.NOTIFICATIONS_OVERDUE, names.SUBSCRIBERS_FAILING)
        ]
        self._queues = self._gauge(names.QUEUE_MESSAGES)
        self._consumers = self._gauge(names.QUEUE_CONSUMERS)
        self._looked_at = self._gauge(names.BACKLOG_LOOKED_AT)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        if Stage.PROCESS in self._stages:
            for library in (ProcessCollector, PlatformCollector, GCCollector):
                library(registry=self._registry)

    # --- The process ------------------------------------------------------------------------------------------------------------

    def runs(self, version: str, roles: Iterable[str]) -> None:
        """Which release this is, in which roles."""
        self._build.set(version, to=1)
        for role in roles:
            self._roles.set(role, to=1)

    def dependency(self, name: str, *, used_by: str, up: bool) -> None:
        """Whether something that a part of this process needs answers."""
        self._dependencies.set(name, used_by, to=up)

    # --- Webhooks ---------------------------------------------------------------------------------------------------------------

    def webhook_answered(self, status: int, seconds: float) -> None:
        """A webhook was answered."""
        self._webhooks.observe(seconds, str(status))

    def webhook_refused(self, status: int, cause: str) -> None:
        """A webhook was not taken."""
        self._refused.add(str(status), cause)

    # --- The admin API ----------------------------------------------------------------------------------------------------------

    def admin_answered(self, route: str, status: int, seconds: float) -> None:
        """A request to the admin API was answered; `route` is its method and pattern."""
        self._admin.observe(seconds, route, str(status))

    # --- Messages and changes ---------------------------------------------------------------------------------------------------

    def message_settled(self, queue: str, outcome: str, seconds: float) -> None:
        """A message was handled: acked, retried, parked, rejected or returned."""
        self._messages.observe(seconds, queue, outcome)

    def changes_applied(self, outcomes: Iterable[str], seconds: float) -> None:
        """One call of the apply path came to its end: with these outcomes, one for each change."""
        if Stage.APPLY not in self._stages:
            return
        tally = Tally(outcomes)
        for outcome, times in tally.items():
            self._changes.add(outcome, times=times)
        self._batches.observe(tally.total())
        self._applying.observe(seconds, "committed")

    def applying_failed(self, seconds: float, *, unavailable: bool) -> None:
        """One call of the apply path raised; `unavailable` where the database was the reason."""
        self._applying.observe(seconds, "unavailable" if unavailable else "failed")

    def contention_met(self) -> None:
        """A transaction of the apply path is run again."""
        self._contention.add()

    def batch_split(self) -> None:
        """A batch of the apply path is split in two."""
        self._splits.add()

    # --- Jobs -------------------------------------------------------------------------------------------------------------------

    def job_ended(self, kind: str, outcome: str, seconds: float) -> None:
        """An attempt of a job came to its end here."""
        self._jobs.observe(seconds, kind, outcome)

    def jobs_running(self, jobs: int) -> None:
        """How many jobs run here now."""
        self._running.set(to=jobs)

    def jobs_handed_on(self, *, abandoned: int, waited: int) -> None:
        """The messages of so many jobs were sent again."""
        for after, times in (("abandoned", abandoned), ("wait", waited)):
            if times:
                self._handed_on.add(after, times=times)

    # --- Drift ------------------------------------------------------------------------------------------------------------------

    def read_model_reconciled(
        self, family: str, mode: str, seconds: float, *, compared: int, drifted: int, breach: bool, promoted: bool
    ) -> None:
        """A read model of this family was compared with its source."""
        for counter, times in (
            (self._compared, compared),
            (self._drifted, drifted),
            (self._breaches, int(breach)),
            (self._promotions, int(promoted)),
        ):
            counter.add(family, mode, times=times)
        self._reconciled.observe(seconds, family, mode)

    # --- Notifications ----------------------------------------------------------------------------------------------------------

    def notification_tried(self, outcome: str, seconds: float) -> None:
        """A subscriber was called: delivered, failed or gone."""
        self._notified.observe(seconds, outcome)

    def notifications_settled(self, *, delivered: int, exhausted: int, disabled: Iterable[str]) -> None:
        """So many notifications ended, and these subscribers are called no more, by why."""
        for outcome, times in (("delivered", delivered), ("exhausted", exhausted)):
            if times:
                self._notifications_ended.add(outcome, times=times)
        for because in disabled:
            self._disabled.add(because)

    # --- Scans ------------------------------------------------------------------------------------------------------------------

    def scan_part_ended(self, provider: str, outcome: str, seconds: float) -> None:
        """A provider's part of a scan came to its end, or waits for another attempt."""
        self._scan_parts.observe(seconds, provider, outcome)

    def findings_changed(self, provider: str, *, opened: int = 0, resolved: int = 0) -> None:
        """So many findings of a provider are new, and so many no more."""
        for change, times in (("opened", opened), ("resolved", resolved)):
            if times:
                self._scan_findings.add(provider, change, times=times)

    # --- The relay --------------------------------------------------------------------------------------------------------------

    def window_claimed(self, seconds: float) -> None:
        """The database handed out a window's rows."""
        self._window_parts.observe(seconds, "claim")

    def window_published(self, outcomes: Iterable[str], delays: Iterable[float], seconds: float) -> None:
        """The broker said its word on each event of a window, of which the confirmed are `delays` seconds old."""
        if Stage.RELAY not in self._stages:
            return
        tally = Tally(outcomes)
        for outcome, times in tally.items():
            self._events.add(outcome, times=times)
        self._windows.observe(tally.total())
        self._window_parts.observe(seconds, "publish")
        self._delays.observe_all(list(delays))

    def buckets_changed(self, owned: int, *, taken: int = 0, taken_over: int = 0, released: int = 0, lost: int = 0) -> None:
        """How many buckets this relay owns now, and how it came to that."""
        self._buckets.set(to=owned)
        for change, times in (("taken", taken), ("taken_over", taken_over), ("released", released), ("lost", lost)):
            if times:
                self._leases.add(change, times=times)

    # --- What waits -------------------------------------------------------------------------------------------------------------

    def outbox_seen(self, messages: int, oldest_seconds: float, blocked_keys: int, relays: int, unowned: int, at: datetime) -> None:
        """How much waits in the outbox, and who could publish it."""
        for gauge, level in zip(self._outbox, (messages, oldest_seconds, blocked_keys), strict=True):
            gauge.set(to=level)
        for gauge, level in zip(self._ownership, (relays, unowned), strict=True):
            gauge.set(to=level)
        self._looked_at.set("database", to=at.timestamp())

    def outbox_unseen(self) -> None:
        """Nobody can see the outbox now."""
        for gauge in (*self._outbox, *self._ownership, *self._notifications):
            gauge.clear()

    def notifications_seen(self, waiting: int, overdue_seconds: float, failing_subscribers: int) -> None:
        """How much waits to be sent to subscribers, and how many of them fail."""
        for gauge, level in zip(self._notifications, (waiting, overdue_seconds, failing_subscribers), strict=True):
            gauge.set(to=level)

    def queues_seen(self, messages: Mapping[tuple[str, str], int], consumers: Mapping[str, int], at: datetime) -> None:
        """Messages ready by queue and part (main, retry, parked), and consumers by queue; a queue that is not there is left out."""
        self._queues.clear()
        self._consumers.clear()
        for (queue, part), level in messages.items():
            self._queues.set(queue, part, to=level)
        for queue, level in consumers.items():
            self._consumers.set(queue, to=level)
        self._looked_at.set("broker", to=at.timestamp())

    def queues_unseen(self) -> None:
        """Nobody can see the queues now."""
        self._queues.clear()
        self._consumers.clear()

    # --- What was counted -------------------------------------------------------------------------------------------------------

    def counted(self, metric: Metric) -> dict[tuple[str, ...], float]:
        """What a counter counted, a gauge holds or a histogram observed how often, by its labels' values; zeros left out."""
        instrument = self._instruments.get(metric.name)
        if instrument is None:
            return {}
        found = instrument.levels if isinstance(instrument, Gauge) else instrument.counts
        return {labels: value for labels, value in found.items() if value}

    def exposed(self, accept: str) -> tuple[bytes, str]:
        """All of it as text, and its media type: OpenMetrics for those who accept it, else Prometheus's own format."""
        if any(part.partition(";")[0].strip().lower() == _OPENMETRICS for part in accept.split(",")):
            text: bytes = openmetrics.generate_latest(self._registry, version=_OPENMETRICS_VERSION)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Family]:
        """For the library: every metric of this process's stages."""
        for instrument in self._instruments.values():
            yield instrument.family()

    def _counter(self, metric: Metric) -> Counter:
        return self._exposed(metric, Counter(metric, on=metric.stage in self._stages))

    def _gauge(self, metric: Metric) -> Gauge:
        return self._exposed(metric, Gauge(metric, on=metric.stage in self._stages))

    def _histogram(self, metric: Metric) -> Histogram:
        return self._exposed(metric, Histogram(metric, on=metric.stage in self._stages))

    def _exposed(self, metric: Metric, instrument: T) -> T:
        if metric.stage in self._stages:
            self._instruments[metric.name] = instrument
        return instrument


# Counts nothing, so that nobody writes to it.
UNMEASURED: Final = Metrics(())
