"""What is counted is exposed as it was counted, in both formats, and can be read by the library's own parsers."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics_parser

from service.domain.outcome import Outcome
from service.domain.webhooks.signatures import Cause
from service.telemetry.metric_names import (
    APPLY_BATCH_SIZE,
    APPLY_DURATION,
    CHANGES,
    METRICS,
    RELAY_DELAY,
    RELAY_EVENTS,
    WEBHOOKS_REFUSED,
    Metric,
    Stage,
)
from service.telemetry.metrics import UNMEASURED, Metrics

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
UNITS = {
    "seconds",
    "messages",
    "changes",
    "info",
    "up",
    "owned",
    "relays",
    "buckets",
    "keys",
    "consumers",
    "running",
    "total",
    "notifications",
    "subscribers",
}


def scraped(metrics: Metrics, accept: str = "") -> dict[str, Family]:
    text, _ = metrics.exposed(accept)
    return {family.name: family for family in parser.text_string_to_metric_families(text.decode())}


def samples(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """By the values of the labels, in the order of their names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in scraped(metrics).values()
        for sample in family.samples
        if sample.name == name
    }


def everything() -> Metrics:
    """Metrics of all stages of which each has been told something."""
    metrics = Metrics(list(Stage))
    metrics.runs("1.2.3", ["worker"])
    metrics.dependency("database", used_by="worker", up=True)
    metrics.webhook_answered(202, 0.003)
    metrics.webhook_refused(401, "mismatch")
    metrics.admin_answered("POST /sync", 202, 0.01)
    metrics.message_settled("rollcall.webhooks", "acked", 0.004)
    metrics.changes_applied(["applied", "applied", "stale"], 0.02)
    metrics.applying_failed(1.5, unavailable=True)
    metrics.contention_met()
    metrics.batch_split()
    metrics.job_ended("directory_sync", "succeeded", 60)
    metrics.jobs_running(1)
    metrics.jobs_handed_on(abandoned=1, waited=0)
    metrics.notification_tried("delivered", 0.02)
    metrics.notifications_settled(delivered=1, exhausted=0, disabled=["gone"])
    metrics.notifications_seen(waiting=2, overdue_seconds=0.5, failing_subscribers=1)
    metrics.scan_part_ended("duplicates", "succeeded", 3)
    metrics.findings_changed("duplicates", opened=2, resolved=1)
    metrics.window_claimed(0.002)
    metrics.window_published(["confirmed", "returned"], [0.004], 0.003)
    metrics.buckets_changed(64, taken=60, taken_over=4)
    metrics.outbox_seen(5, 3.5, 1, relays=2, unowned=0, at=NOW)
    metrics.queues_seen({("rollcall.webhooks", "parked"): 3}, {"rollcall.webhooks": 2}, NOW)
    return metrics


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_by_the_conventions_and_says_what_it_is(metric: Metric) -> None:
    # The drift harness's five keep the names by which others know them.
    assert re.fullmatch(r"(rollcall|read_model_reconciliation)(_[a-z]+)+", metric.name)
    assert metric.name.rpartition("_")[2] in UNITS
    assert metric.name.endswith("_total") is (metric.kind == "counter")
    assert metric.help.endswith(".")
    assert len(metric.labels) <= 2
    assert not {*metric.labels} & {"le", "job", "instance", "connection", "company", "member", "id"}
    assert all(len(value) == len(metric.labels) for value in metric.values)
    assert bool(metric.buckets) is (metric.kind == "histogram")
    assert all(low < high for low, high in pairwise(metric.buckets))


def test_every_metric_is_listed_once_and_exposed_once_it_is_told() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    exposed = {sample.name for family in scraped(everything()).values() for sample in family.samples}
    for metric in METRICS:
        name = f"{metric.name}_count" if metric.kind == "histogram" else metric.name
        assert name in exposed, name


def test_nothing_is_exposed_that_is_not_listed() -> None:
    libraries = ("python_", "process_")
    own = {name for name in scraped(everything()) if not name.startswith(libraries)}
    assert own == {metric.name.removesuffix("_total") for metric in METRICS}


def test_the_values_of_labels_that_are_known_beforehand_are_those_of_the_domain() -> None:
    assert {value for (value,) in CHANGES.values} == {outcome.value for outcome in Outcome}
    assert not {cause for _, cause in WEBHOOKS_REFUSED.values} & {*get_args(Cause)}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=nonsense;escaping=é", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            OPENMETRICS,
        ),
        ("text/html, Application/OpenMetrics-Text;version=nonsense", OPENMETRICS),
    ],
)
def test_the_format_is_what_is_accepted_whatever_else_stands_there(accept: str, media_type: str) -> None:
    assert everything().exposed(accept)[1] == media_type


def test_both_formats_say_the_same_and_are_whole() -> None:
    metrics = everything()
    text, _ = metrics.exposed(OPENMETRICS)
    strict = list(openmetrics_parser.text_string_to_metric_families(text.decode()))
    own = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in strict
        for sample in family.samples
        if sample.name.startswith("rollcall_")
    }
    plain = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in scraped(metrics).values()
        for sample in family.samples
        if sample.name.startswith("rollcall_")
    }
    assert own == plain


def test_what_is_told_is_what_is_counted() -> None:
    metrics = everything()
    assert metrics.counted(CHANGES) == {("applied",): 2, ("stale",): 1}
    assert metrics.counted(RELAY_EVENTS) == {("confirmed",): 1, ("returned",): 1}
    assert samples(metrics, "rollcall_webhook_duration_seconds_count") == {("202",): 1}
    assert samples(metrics, "rollcall_apply_duration_seconds_count") == {("committed",): 1, ("unavailable",): 1, ("failed",): 0}
    assert samples(metrics, "rollcall_relay_lease_changes_total") == {
        ("taken",): 60,
        ("taken_over",): 4,
        ("released",): 0,
        ("lost",): 0,
    }
    assert samples(metrics, "rollcall_outbox_oldest_age_seconds") == {(): 3.5}
    assert samples(metrics, "rollcall_queue_messages") == {("parked", "rollcall.webhooks"): 3}


def test_errors_stand_at_zero_before_the_first_so_that_their_rate_begins_with_it() -> None:
    fresh = Metrics(list(Stage))
    assert samples(fresh, "rollcall_webhooks_refused_total")["not_confirmed", "503"] == 0
    assert samples(fresh, "rollcall_relay_events_total")["nacked",] == 0
    assert samples(fresh, "rollcall_apply_splits_total") == {(): 0}
    assert fresh.counted(RELAY_EVENTS) == {}


def test_what_nobody_can_see_is_not_exposed() -> None:
    metrics = everything()
    metrics.outbox_unseen()
    metrics.queues_unseen()
    for name in ("rollcall_outbox_messages", "rollcall_leases_live_relays", "rollcall_queue_messages", "rollcall_queue_consumers"):
        assert samples(metrics, name) == {}
    assert samples(metrics, "rollcall_backlog_looked_at_timestamp_seconds") == {
        ("broker",): NOW.timestamp(),
        ("database",): NOW.timestamp(),
    }


def test_a_queue_that_is_gone_is_not_exposed_any_more() -> None:
    metrics = everything()
    metrics.queues_seen({("rollcall.member-changes", "main"): 1}, {"rollcall.member-changes": 1}, NOW)
    assert samples(metrics, "rollcall_queue_messages") == {("main", "rollcall.member-changes"): 1}


def test_a_process_exposes_the_metrics_of_its_stages_alone() -> None:
    relay = Metrics((Stage.RELAY,))
    relay.changes_applied(["applied"], 0.1)
    relay.webhook_refused(401, "mismatch")
    exposed = {name for name in scraped(relay) if name.startswith("rollcall_")}
    assert exposed == {metric.name.removesuffix("_total") for metric in METRICS if metric.stage is Stage.RELAY}


def test_the_off_form_counts_and_exposes_nothing() -> None:
    UNMEASURED.changes_applied(["applied"], 0.1)
    UNMEASURED.window_published(["confirmed"], [0.1], 0.1)
    UNMEASURED.buckets_changed(64, taken=64)
    UNMEASURED.outbox_seen(1, 1, 1, relays=1, unowned=1, at=NOW)
    assert scraped(UNMEASURED) == {}
    assert UNMEASURED.counted(CHANGES) == {}


def test_two_processes_in_one_interpreter_count_apart() -> None:
    one, other = Metrics((Stage.APPLY,)), Metrics((Stage.APPLY,))
    one.changes_applied(["applied"], 0.1)
    assert other.counted(CHANGES) == {}
    assert one.counted(APPLY_DURATION) == {("committed",): 1}


@given(st.lists(st.floats(min_value=-5, max_value=1e6, allow_nan=False), max_size=50))
def test_a_histogram_counts_each_observation_in_every_bucket_that_is_not_below_it(delays: list[float]) -> None:
    metrics = Metrics((Stage.RELAY,))
    metrics.window_published(["confirmed"] * len(delays), delays, 0.1)
    buckets = samples(metrics, f"{RELAY_DELAY.name}_bucket")
    for bound in RELAY_DELAY.buckets:
        assert buckets[str(float(bound)),] == sum(delay <= bound for delay in delays)
    assert buckets["+Inf",] == len(delays)
    assert samples(metrics, f"{RELAY_DELAY.name}_sum")[()] == pytest.approx(sum(delays))


@given(st.lists(st.integers(min_value=1, max_value=600), max_size=20))
def test_batch_sizes_add_up_to_the_changes(sizes: list[int]) -> None:
    metrics = Metrics((Stage.APPLY,))
    for size in sizes:
        metrics.changes_applied(["unchanged"] * size, 0.01)
    assert samples(metrics, f"{APPLY_BATCH_SIZE.name}_sum") == {(): sum(sizes)}
    assert samples(metrics, CHANGES.name)["unchanged",] == sum(sizes)
