"""The dashboard and the alert rules ask for metrics that there are, and the operations page tells of every alert."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.telemetry.metric_names import METRICS, Metric
from tests.deploy.alert_cases import CASES

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
OPERATIONS = (DEPLOY.parent / "docs" / "operations.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "rollcall.json").read_text(encoding="utf-8"))
ALERTS = [
    rule for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
PROMTOOL = shutil.which("promtool")

# What a selector of a metric may stand for, by the metric's kind; and what comes from the libraries and from Prometheus itself.
# How a name of ours begins.
NAME = r"(?:rollcall|read_model_reconciliation)_[a-z_]+"
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
OTHERS = {
    "up": {"job", "instance", "role"},
    **{key: {"role"} for key in ("process_cpu_seconds_total", "process_resident_memory_bytes")},
}
SCRAPED = {"job", "instance", "role"}
FUNCTIONS = {
    "absent",
    "and",
    "by",
    "deriv",
    "histogram_quantile",
    "increase",
    "max",
    "min",
    "on",
    "or",
    "rate",
    "sum",
    "time",
    "unless",
}
SERIES: dict[str, Metric] = {f"{metric.name}{suffix}": metric for metric in METRICS for suffix in SUFFIXES[metric.kind]}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Each expression with where it stands."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel {panel['title']} {target['refId']}", target["expr"]
    for rule in ALERTS:
        yield f"alert {rule['alert']}", rule["expr"]


EXPRESSIONS = dict(expressions())


def labels_of(series: str) -> set[str]:
    if series in SERIES:
        return {*SERIES[series].labels, *SCRAPED, "le"}
    return OTHERS[series] | SCRAPED


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_name_in_an_expression_is_a_metric_a_label_of_it_or_a_function(where: str) -> None:
    expression = EXPRESSIONS[where]
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]', "", expression)
    grouped = {name for names in re.findall(r"\bby \(([^)]*)\)", bare) for name in re.findall(r"\w+", names)}
    matched = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)(?!=)", bare))
    names = set(re.findall(r"[a-z_]\w*", bare)) - grouped - matched - FUNCTIONS
    assert names, "asks for nothing"
    assert names <= SERIES.keys() | OTHERS.keys()
    assert grouped | matched <= set().union(*(labels_of(name) for name in names))


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_a_counter_is_never_shown_without_its_rate_and_a_value_of_a_label_is_one_that_there_is(where: str) -> None:
    expression = EXPRESSIONS[where]
    for name, selector in re.findall(rf"({NAME})(\{{[^}}]*\}})?", expression):
        metric = SERIES[name]
        if metric.kind != "gauge":
            assert re.search(rf"(rate|increase)\({name}", expression), name
        for label, value in re.findall(r'(\w+)="([^"]*)"', selector):
            known = {values[metric.labels.index(label)] for values in metric.values} if label in metric.labels else set()
            if known and (name, label) not in {
                ("rollcall_webhook_duration_seconds_count", "status"),
                ("rollcall_webhooks_refused_total", "status"),
            }:
                assert value in known, (name, label, value)


def test_every_metric_of_the_stages_is_looked_at_by_a_panel_or_an_alert() -> None:
    asked = " ".join(EXPRESSIONS.values())
    unused = {metric.name for metric in METRICS if metric.name not in asked}
    assert unused == {"rollcall_build_info", "rollcall_leases_live_relays"}


def test_the_panels_have_ids_places_and_sources_of_their_own() -> None:
    sources = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "datasources.yaml").read_text())["datasources"]
    uids = {source["uid"] for source in sources}
    everything = DASHBOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] in uids
            assert panel["fieldConfig"]["defaults"].get("unit") or panel["type"] == "state-timeline"


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_waits_has_a_severity_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Rollcall[A-Z]\w+", rule["alert"])
    assert rule["for"]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"].endswith(".")


def test_the_operations_page_tells_of_every_alert_and_of_no_other() -> None:
    assert re.findall(r"^\| `(Rollcall\w+)` \|", OPERATIONS, re.MULTILINE) == [rule["alert"] for rule in ALERTS]


def test_the_operations_page_names_metrics_that_there_are() -> None:
    assert set(re.findall(rf"`({NAME})", OPERATIONS)) <= SERIES.keys() | {metric.name for metric in METRICS}


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert CASES.keys() == {rule["alert"] for rule in ALERTS}


@pytest.mark.promtool
def test_prometheus_takes_its_configuration_and_rules() -> None:
    assert PROMTOOL is not None
    subprocess.run([PROMTOOL, "check", "config", "prometheus.yaml"], cwd=DEPLOY / "prometheus", check=True, timeout=60)


@pytest.mark.promtool
def test_prometheus_can_evaluate_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    asked = [expr.replace("$__rate_interval", "1m") for where, expr in EXPRESSIONS.items() if where.startswith("panel")]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(asked)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    subprocess.run([PROMTOOL, "check", "rules", "rules.yaml"], cwd=tmp_path, check=True, timeout=60)


@pytest.mark.promtool
def test_every_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    (tmp_path / "alerts.yaml").write_text((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    tests = [
        {
            "interval": "15s",
            "input_series": [{"series": series, "values": values} for series, values in (bad if fires else good).items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                    "eval_time": "20m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
            ],
        }
        for alert, (bad, good) in CASES.items()
        for fires in (True, False)
    ]
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["alerts.yaml"], "tests": tests}))
    done = subprocess.run([PROMTOOL, "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_telemetry_page_lists_every_metric_with_its_kind_and_labels() -> None:
    page = (DEPLOY.parent / "docs" / "architecture" / "telemetry.md").read_text(encoding="utf-8")
    rows = re.findall(rf"^\| `({NAME})` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
    assert rows == [(metric.name, metric.kind, ", ".join(f"`{label}`" for label in metric.labels)) for metric in METRICS]
