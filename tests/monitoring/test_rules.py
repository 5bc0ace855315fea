"""Rules are right for Prometheus, and each alert is proven to fire and to stay silent."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.files import alerts, place_configuration, rules, run  # isort: skip  # before what needs the extra
from monitoring.generated import RULES, generated_files
from tests.conftest import ROOT

pytestmark = pytest.mark.unit

CASES = sorted((Path(__file__).parent / "alerts").glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
CHAPTERS = ["What it means", "First look", "Causes", "Mending", "Verification"]


def test_generated_rules_and_dashboards_are_what_the_code_makes() -> None:
    for path, text in generated_files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `python -m monitoring`"


def test_promtool_accepts_the_rules(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "check", "rules", *sorted(RULES.glob("*.yaml")))


def test_promtool_accepts_the_configuration_for_this_machine(promtool: str, tmp_path: Path) -> None:
    configuration = place_configuration(tmp_path)
    (tmp_path / "etc/stepaudio/run/targets.json").write_text("[]\n")
    said = run(promtool, "check", "config", configuration)
    assert f"{len(list(RULES.glob('*.yaml')))} rule files found" in said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_alerts_fire_and_stay_silent_as_their_cases_say(promtool: str, case: Path) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", case)


def test_every_alert_and_window_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires: set[tuple[str, str]] = set()
    silent_files: set[str] = set()
    for case in CASES:
        content = yaml.safe_load(case.read_text(encoding="utf-8"))
        for test in content["tests"]:
            fires |= _firing(test)
            if any(check["exp_samples"] == [] and "ALERTS{" in check["expr"] for check in _checks(test)):
                silent_files |= {Path(file).name for file in content["rule_files"]}
    assert fires == {(alert["alert"], alert["labels"].get("window", "")) for alert in alerts()}
    assert silent_files == {file.name for file in RULES.glob("*.yaml")}


def test_a_healthy_system_of_the_cases_has_every_series_that_the_alerts_on_causes_read() -> None:
    """Else an alert would be silent there for want of data."""
    content = yaml.safe_load((Path(__file__).parent / "alerts" / "causes.yaml").read_text(encoding="utf-8"))
    healthy = {series["series"].split("{")[0] for series in content["tests"][0]["input_series"]}
    causes = yaml.safe_load((RULES / "causes.yaml").read_text(encoding="utf-8"))
    text = " ".join(rule["expr"] for group in causes["groups"] for rule in group["rules"])
    asked = set(re.findall(r"\b(?:stepaudio|nv|kube|redis|certmanager|DCGM_FI)_\w+|\bup\b", text))
    failures_of_other_models = {name for name in asked if name.endswith("_requests_total")}
    assert asked - healthy <= failures_of_other_models
    assert healthy <= asked


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: f"{alert['alert']}-{alert['labels'].get('window', '')}")
def test_an_alert_says_whom_it_wakes_what_it_is_and_where_its_runbook_lies(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert re.fullmatch(r"Stepaudio([A-Z][a-z]+)+", name)
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
    page = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == CHAPTERS


def test_no_runbook_is_without_its_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("Stepaudio*.md")} == {alert["alert"] for alert in alerts()}


def test_recorded_series_are_named_by_product_thing_and_value() -> None:
    for rule in rules():
        if "record" in rule:
            assert re.fullmatch(r"stepaudio:[a-z_]+:[a-z_]+(_\d+[mhd]|_p95)?", rule["record"])


def _checks(test: dict[str, Any]) -> list[dict[str, Any]]:
    checks: list[dict[str, Any]] = test.get("promql_expr_test") or []
    return checks


def _firing(test: dict[str, Any]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for check in _checks(test):
        for sample in check["exp_samples"]:
            labels = dict(re.findall(r'(\w+)="([^"]*)"', sample["labels"]))
            if "alertname" in labels:
                found.add((labels["alertname"], labels.get("window", "")))
    for check in test.get("alert_rule_test") or []:
        for expected in check["exp_alerts"]:
            found.add((check["alertname"], expected["exp_labels"].get("window", "")))
    return found
