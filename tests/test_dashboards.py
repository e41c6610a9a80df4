"""Dashboards and alerts ask for nothing that the server does not export."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from tests.fakes import FakeEngine

DEPLOY = Path(__file__).parent.parent / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((DEPLOY / "grafana" / "laconic.json").read_text(encoding="utf-8"))
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
EXPRESSIONS = [rule["expr"] for rule in ALERTS.values()] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]
NAME = re.compile(r"\b(?:laconic|process)_\w+")
SELECTOR = re.compile(r"\b(\w+)(?:\{([^}]*)\})?")
FROM_PROMETHEUS = {"instance", "job"}
"""Labels that Prometheus adds itself."""


def exported():
    """The labels of every exported series, by name, after a few requests."""
    client = create_app(FakeEngine()).test_client()
    client.post("/generate", json={"prompt": "a"})
    page = client.get("/metrics").get_data(as_text=True)
    labels = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


EXPORTED = exported()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_is_exported(expression):
    names = set(NAME.findall(expression))
    assert names or expression == 'up{job="laconic"} == 0'
    assert names <= set(EXPORTED)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_metrics_are_selected_by_labels_that_they_have(expression):
    for name, selector in SELECTOR.findall(expression):
        for label in re.findall(r"(\w+)\s*=", selector):
            assert label in EXPORTED.get(name, set()) | FROM_PROMETHEUS, (name, label)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_results_are_grouped_by_labels_that_the_metrics_have(expression):
    known = FROM_PROMETHEUS.union(*(EXPORTED[name] for name in NAME.findall(expression)))
    for labels in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in labels.split(",")} <= known


def test_failures_are_looked_for_under_reasons_that_exist():
    page = create_app(FakeEngine()).test_client().get("/metrics").get_data(as_text=True)
    known = set(re.findall(r'reason="(\w+)"', page))
    asked = {
        reason
        for expression in EXPRESSIONS
        for reasons in re.findall(r'reason=~?"([^"]+)"', expression)
        for reason in reasons.split("|")
    }
    assert {"busy", "deadline", "device_lost"} <= asked
    assert asked <= known


def test_every_gauge_and_histogram_is_on_the_dashboard():
    shown = " ".join(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    for name in EXPORTED:
        base = re.sub(r"_(bucket|sum|count|created)$", "", name)
        if base.startswith("laconic_") and base != "laconic_kv_cache_tokens":
            assert base in shown


def test_every_panel_has_a_title_a_unit_and_a_place_of_its_own():
    places = set()
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert places.isdisjoint(cells)
        assert place["x"] + place["w"] <= 24
        places |= cells


def test_every_variable_of_the_dashboard_is_defined():
    defined = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))
    assert {name for name in used if not name.startswith("__")} <= defined


def test_the_provisioned_source_is_the_prometheus_of_compose():
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    chosen = DASHBOARD["templating"]["list"][0]["current"]["value"]
    assert chosen == source["uid"]


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_every_alert_says_how_urgent_it_is_and_what_to_do(alert):
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["for"]
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")
def test_prometheus_accepts_the_rules():
    done = subprocess.run(
        ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
