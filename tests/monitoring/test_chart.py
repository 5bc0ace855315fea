"""What the chart hands to Prometheus's operator and to Grafana, as helm renders it."""

import json
from typing import Any

import pytest
import yaml

from tests.helm.conftest import Chart
from tests.helm.conftest import chart as chart  # the fixture
from tests.monitoring.files import dashboards, rule_files

pytestmark = pytest.mark.unit

COMPONENTS = {"orchestrator", "tokenizer", "lm", "tts", "vocoder"}


def render(chart: Chart, *arguments: str) -> list[dict[str, Any]]:
    done = chart.template(*arguments)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def of_kind(resources: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [found for found in resources if found["kind"] == kind]


def test_without_the_operator_nothing_of_it_is_made(chart: Chart) -> None:
    kinds = {found["kind"] for found in render(chart)}
    assert not kinds & {"ServiceMonitor", "PrometheusRule"}


def test_each_components_monitor_selects_the_metrics_of_one_service_without_an_address(chart: Chart) -> None:
    resources = render(chart, "--set", "monitoring.enabled=true,monitoring.labels.release=kps")
    found: set[str] = set()
    for monitor in of_kind(resources, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (endpoint,) = monitor["spec"]["endpoints"]
        (service,) = (
            service
            for service in of_kind(resources, "Service")
            if wanted <= service["metadata"]["labels"].items()
            and endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        )
        assert service["spec"]["clusterIP"] == "None"
        labels = {rule["targetLabel"]: rule["replacement"] for rule in endpoint["relabelings"]}
        assert labels["job"] == "stepaudio"
        assert monitor["metadata"]["labels"]["release"] == "kps"
        found.add(labels["component"])
    assert found == COMPONENTS


def test_rules_and_dashboards_arrive_as_they_were_tested(chart: Chart) -> None:
    resources = render(chart, "--set", "monitoring.enabled=true")
    rules = [found["spec"] for found in of_kind(resources, "PrometheusRule")]
    assert sorted(rules, key=str) == sorted(rule_files(), key=str)
    maps = [found for found in of_kind(resources, "ConfigMap") if "grafana_dashboard" in found["metadata"]["labels"]]
    boards = {name: json.loads(text) for found in maps for name, text in found["data"].items()}
    assert boards == {f"stepaudio-{name}.json": board for name, board in dashboards().items()}


def test_dashboards_can_be_left_out(chart: Chart) -> None:
    resources = render(chart, "--set", "monitoring.enabled=true,monitoring.dashboards=false")
    assert not [found for found in of_kind(resources, "ConfigMap") if "dashboard" in found["metadata"]["name"]]
